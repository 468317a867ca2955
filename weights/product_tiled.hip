// y[i][j] = Σ_c w[j][c] · x[i][c] for many rows of x, one tile of rows of weights and of
// x a block: tiles of x count fastest, so that what one block reads of the weights is
// still in a cache for the next. The twin is productTiledTwin.

template <int32 N> DEVICE void multiplyProduct(const productArgs &a) {
  typedef Tiling<N> tiling;
  __shared__ tileShared<N> m;
  const int32 tiles = ceilDiv(a.Rows, N);
  const int32 first = (int32)blockIdx.x / tiles * tiling::rows, row = (int32)blockIdx.x % tiles * N;
  const auto weightRow = [&](int32 j) {
    const int32 of = minimum(first + j, a.Out - 1);
    return rowOf(segmentOf(a.Weights, a.Segments, of), of);
  };
  const auto rowOfX = [&](int32 i) { return a.X + (int64)minimum(row + i, a.Rows - 1) * a.In; };
  float sums[tiling::strips][N / 16][Piece::values] = {};
  multiplyTilesOf<N>(a.Weights[0].Format, &m, sums, weightRow, rowOfX, a.In);
#pragma unroll
  for (int32 n = 0; n < N / 16; n++) {
    shareSums<N>(&m, sums, n);
    for (int32 k = (int32)threadIdx.x; k < 16 * tiling::rows; k += tileThreads) {
      const int32 i = k / tiling::rows, j = k % tiling::rows, at = row + 16 * n + i;
      if (at < a.Rows && first + j < a.Out) a.Y[(int64)at * a.Out + first + j] = tileSum<N>(&m, i, j);
    }
  }
}

KERNEL(tileThreads) void product_tiled_16(productArgs a) { multiplyProduct<16>(a); }
KERNEL(tileThreads) void product_tiled_32(productArgs a) { multiplyProduct<32>(a); }
KERNEL(tileThreads) void product_tiled_64(productArgs a) { multiplyProduct<64>(a); }
