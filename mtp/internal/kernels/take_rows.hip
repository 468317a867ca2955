// out[i] = from[sources[i]], or kept[−1 − sources[i]] where that is negative: one block
// per row. The twin is takeRowsTwin; Go gives takeThreads.

struct TakeRowsArgs {
  float *Out;
  const float *From, *Kept;
  const int32 *Sources;
  int32 Rows, FromRows, KeptRows, Width;
};

KERNEL(takeThreads) void take_rows(TakeRowsArgs a) {
  const int32 source = a.Sources[blockIdx.x], n = a.Width;
  const float *from = source < 0 ? a.Kept + (int64)(-1 - source) * n : a.From + (int64)source * n;
  float *out = a.Out + (int64)blockIdx.x * n;
  if (((uint64)from | (uint64)out) % 16 == 0 && n % 4 == 0) {
    for (int32 i = (int32)threadIdx.x; i < n / 4; i += (int32)blockDim.x) ((Float32x4 *)out)[i] = ((const Float32x4 *)from)[i];
    return;
  }
  for (int32 i = (int32)threadIdx.x; i < n; i += (int32)blockDim.x) out[i] = from[i];
}
