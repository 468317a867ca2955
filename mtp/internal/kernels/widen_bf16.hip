// y[i] = float32(x[i]), of bfloat16: exact, a tile of values a block. The twin is
// widenTwin.

struct widenArgs {
  const uint16 *X;
  float *Y;
  int64 N;
};

constexpr int32 widenTile = 1024;

KERNEL(256) void widen_bf16(widenArgs a) {
  const int64 first = (int64)blockIdx.x * widenTile, end = minimum(first + widenTile, a.N);
  for (int64 i = first + threadIdx.x; i < end; i += blockDim.x) a.Y[i] = floatOfBF16(a.X[i]);
}
