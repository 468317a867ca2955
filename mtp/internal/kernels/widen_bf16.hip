// y[i] = float32(x[i]), of bfloat16: exact, a tile of values a block. The twin is
// widenBF16Twin; Go gives widenThreads and widenTile.

struct widenArgs {
  const uint16 *X;
  float *Y;
  int64 N;
};

KERNEL(widenThreads) void widen_bf16(widenArgs a) {
  const int64 first = (int64)blockIdx.x * widenTile, end = minimum(first + widenTile, a.N);
  for (int64 i = first + threadIdx.x; i < end; i += blockDim.x) a.Y[i] = floatOfBF16(a.X[i]);
}
