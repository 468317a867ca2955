// out[row] = [ from[0][row] | from[1][row] | … ]: one block for each row and rank. The twin
// is joinColumnsTwin; Go gives joinThreads.

struct JoinColumnsArgs {
  float *Out;
  const float *From;
  const int32 *First;
  int32 Rows, Ranks, Width, Widest;
};

KERNEL(joinThreads) void join_columns(JoinColumnsArgs a) {
  const int64 row = blockIdx.x / a.Ranks, rank = blockIdx.x % a.Ranks;
  const int32 first = a.First[rank], n = a.First[rank + 1] - first;
  const float *from = a.From + rank * a.Rows * a.Widest + row * n;
  float *out = a.Out + row * a.Width + first;
  for (int32 i = (int32)threadIdx.x; i < n; i += (int32)blockDim.x) out[i] = from[i];
}
