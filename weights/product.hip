// y[i][j] = Σ_c w[j][c] · x[i][c], one tile of rows of weights a block. The twin is
// productTwin.

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

KERNEL(multiplyThreads) void product(productArgs a) { multiplyRowsOfX<multiplyRows>(a, (int32)blockIdx.x * multiplyTile, 0, a.Rows); }

// product_one is product for one row of x.
KERNEL(multiplyThreads, oneRowBlocks) void product_one(productArgs a) { multiplyRowsOfX<1>(a, (int32)blockIdx.x * multiplyTile, 0, 1); }
