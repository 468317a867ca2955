// y[i][j] = Σ_c w[j][c] · x[i][c] for many rows of x, one tile of rows of weights and of
// x a block: tiles of x count fastest, so that what one block reads of the weights is
// still in a cache for the next. The twin is productTiledTwin.

template <int32 N> DEVICE void multiplyProduct(const productArgs &a) {
  typedef Tiling<N> tiling;
  __shared__ tileShared<N> m;
  const int32 tiles = ceilDiv(a.Rows, N);
  const int32 first = (int32)blockIdx.x / tiles * tiling::rows, row = (int32)blockIdx.x % tiles * N;
  const int32 last = minimum(first + tiling::rows, a.Out) - 1;
  const auto rowOfX = [&](int32 i) { return a.X + (int64)minimum(row + i, a.Rows - 1) * a.In; };
#pragma unroll 1
  for (int32 start = first, end; start <= last; start = end + 1) { // once, unless formats differ within the tile
    end = lastOfFormat(a.Weights, a.Segments, start, last);
    const auto weightRow = [&](int32 j) { return minimum(maximum(first + j, start), end); };
    tileSums<N>(&m, a.Weights, a.Segments, weightRow, rowOfX, minimum(N, a.Rows - row), a.In, tiling::rows, [&](int32 i, int32 j) {
      if (start <= first + j && first + j <= end) a.Y[(int64)(row + i) * a.Out + first + j] = tileSum<N>(&m, i, j);
    });
  }
}

KERNEL(tileThreads, 2) void product_tiled_16(productArgs a) { multiplyProduct<16>(a); }
KERNEL(tileThreads, 2) void product_tiled_32(productArgs a) { multiplyProduct<32>(a); }
KERNEL(tileThreads, 2) void product_tiled_64(productArgs a) { multiplyProduct<64>(a); }
