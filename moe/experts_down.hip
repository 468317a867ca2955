// y[pair][j] = w2_e[j] · x[pair] for few pairs of an expert. The twin is expertsDownTwin.

KERNEL(multiplyThreads) void experts_down(expertsArgs a) {
  __shared__ gateUpShared s;
  multiplyExpert<false, multiplyRows>(&s, a);
}

// The same where no expert has more than one pair.
KERNEL(multiplyThreads, oneRowBlocks) void experts_down_one(expertsArgs a) {
  __shared__ gateUpShared s;
  multiplyExpert<false, 1>(&s, a);
}
