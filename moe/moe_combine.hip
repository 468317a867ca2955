// hidden = residual + Σ_k w[row][k] · y[row·TopK + k] + shared, of the picks whose expert is
// held, in float64, rounded once: one block per row and tile of columns. The twin is
// combineOf[float64]; Go gives combineThreads and combineTile.

struct combineArgs {
  float *Hidden;
  const float *Residual, *Y, *Weights;
  const int32 *IDs;
  const float *Shared;
  float *Routed, *Total;
  int64 Rows;
  int32 TopK, Cols, First, Held;
};

KERNEL(combineThreads) void moe_combine(combineArgs a) {
  const int32 tiles = ceilDiv(a.Cols, combineTile), first = (int32)(blockIdx.x % tiles) * combineTile;
  const int64 row = blockIdx.x / tiles;
  const int32 end = first + minimum(combineTile, a.Cols - first);
  for (int32 c = first + (int32)threadIdx.x; c < end; c += (int32)blockDim.x) {
    const int64 at = row * a.Cols + c;
    double routed = 0;
    const auto add = [&](int64 pair) { routed = fusedMultiplyAdd((double)a.Weights[pair], (double)a.Y[pair * a.Cols + c], routed); };
    if (!a.IDs) {
      for (int32 k = 0; k < a.TopK; k++) add(row * a.TopK + k);
    } else {
      for (int32 k = 0; k < a.TopK; k++) {
        const int64 pair = row * a.TopK + k;
        if ((uint32)(a.IDs[pair] - a.First) < (uint32)a.Held) add(pair);
      }
    }
    const double total = routed + (a.Shared ? a.Shared[at] : 0), hidden = total + (a.Residual ? a.Residual[at] : 0);
    if (a.Routed) a.Routed[at] = (float)routed;
    if (a.Total) a.Total[at] = (float)total;
    a.Hidden[at] = (float)hidden;
  }
}
