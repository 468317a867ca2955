// values = 0. The twin is clearTwin; Go gives clearThreads and clearBlock.

struct clearArgs {
  float *Values;
  int64 N;
};

KERNEL(clearThreads) void clear_values(clearArgs a) {
  const int64 first = (int64)blockIdx.x * clearBlock, end = minimum(first + clearBlock, a.N);
  for (int64 i = first + threadIdx.x; i < end; i += clearThreads) a.Values[i] = 0;
}
