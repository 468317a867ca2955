// y[i][j] = Σ_c w[j][c] · x[i][c]: what all its kernels have in common. They compile apart,
// at the same time.

struct productArgs {
  const float *X;
  float *Y;
  const Segment *Weights;
  int32 Segments, Rows, Out, In;
};

// multiplyRowsOfX multiplies rows start … end−1 of x with the rows of weights from first,
// most at a time.
template <int32 most> DEVICE void multiplyRowsOfX(const productArgs &a, int32 first, int32 start, int32 end) {
  __shared__ multiplied m;
  const int32 count = minimum(multiplyTile, a.Out - first);
  for (int32 row = start, n; row < end; row += n) {
    const float *x = a.X + (int64)row * a.In;
    n = multiplyFew<most>(&m, a.Weights, a.Segments, first, count, [&](int32 i) { return x + (int64)i * a.In; }, end - row, a.In);
    for (int32 k = (int32)threadIdx.x; k < n * multiplyTile; k += multiplyThreads) {
      const int32 i = k / multiplyTile, j = k % multiplyTile;
      if (j < count) a.Y[(int64)(row + i) * a.Out + first + j] = m.sums[i][j];
    }
    __syncthreads();
  }
}
