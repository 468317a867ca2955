// y[pair][j] = act(w13_e[j] · x, w13_e[Out+j] · x) for few pairs of an expert. The twin is
// expertsGateUpTwin.

KERNEL(multiplyThreads) void experts_gate_up(expertsArgs a) {
  __shared__ gateUpShared s;
  multiplyExpert<true, multiplyRows>(&s, a);
}

// The same where no expert has more than one pair.
KERNEL(multiplyThreads, oneRowBlocks) void experts_gate_up_one(expertsArgs a) {
  __shared__ gateUpShared s;
  multiplyExpert<true, 1>(&s, a);
}
