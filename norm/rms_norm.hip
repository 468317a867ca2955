// residual[r] += x[r], if there is a residual; y[r] = rms(the sum, or x[r]; w): one block
// per row. The twin is rmsNormTwin.

struct rmsNormArgs {
  float *Y;
  const float *X, *W;
  float *Residual;
  double Eps;
  int32 Rows, N;
};

// addedRow is x, or x added to sum, which is then written as well.
struct addedRow {
  const float *x;
  float *sum; // or null

  template <int32 W> __device__ __forceinline__ piece<W> read(uint32 c) const {
    piece<W> p = pieceAt<W>(x, c);
    if (!sum) return p;
    const piece<W> before = pieceAt<W>(sum, c);
    for (int32 i = 0; i < W; i++) p.at[i] = before.at[i] + p.at[i];
    store(sum, c, p);
    return p;
  }
};

KERNEL(rmsThreads) void rms_norm(rmsNormArgs a) {
  startNext();
  __shared__ double waves[rmsThreads / waveSize];
  const int64 row = blockIdx.x;
  float *y = a.Y + row * a.N;
  const addedRow from = {a.X + row * a.N, a.Residual ? a.Residual + row * a.N : nullptr};
  if (inPieces<4>(y, a.N) && inPieces<4>(from.x, a.N) && inPieces<4>(from.sum, a.N) && inPieces<4>(a.W, a.N)) {
    rmsOfRow<4>(y, from, a.W, a.N, a.Eps, waves);
  } else {
    rmsOfRow<1>(y, from, a.W, a.N, a.Eps, waves);
  }
}
