// hidden = residual + Σ_k w[row][k] · y[row·TopK + k] + shared, in float64, rounded once:
// one block per row and tile of columns. The twin is combineTwin; Go
// gives combineThreads and combineTile.

struct combineArgs {
  float *Hidden;
  const float *Residual, *Y, *Weights, *Shared;
  float *Routed, *Total;
  int64 Rows;
  int32 TopK, Cols;
};

KERNEL(combineThreads) void moe_combine(combineArgs a) {
  const int32 tiles = ceilDiv(a.Cols, combineTile), first = (int32)(blockIdx.x % tiles) * combineTile;
  const int64 row = blockIdx.x / tiles;
  const int32 end = first + minimum(combineTile, a.Cols - first);
  for (int32 c = first + (int32)threadIdx.x; c < end; c += (int32)blockDim.x) {
    const int64 at = row * a.Cols + c;
    double routed = 0;
    for (int32 k = 0; k < a.TopK; k++) routed = fusedMultiplyAdd((double)a.Weights[row * a.TopK + k], (double)a.Y[(row * a.TopK + k) * a.Cols + c], routed);
    const double total = routed + a.Shared[at], hidden = a.Residual[at] + total;
    if (a.Routed) a.Routed[at] = (float)routed;
    if (a.Total) a.Total[at] = (float)total;
    a.Hidden[at] = (float)hidden;
  }
}
