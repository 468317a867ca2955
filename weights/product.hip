// y[i][j] = Σ_c w[j][c] · x[i][c]. Go instantiates a kernel for each row of the table in
// product.go, which has its twins.

struct productArgs {
  const float *X;
  const uint8 *Parts;
  float *Y;
  const Segment *Weights;
  int32 Segments, Rows, Out, In;
  int64 Tile;
};

// multiplyRowsOfX multiplies rows start … end−1 of x with the rows of weights from first,
// up to most at a time.
template <int32 most> DEVICE void multiplyRowsOfX(const productArgs &a, int32 first, int32 start, int32 end) {
  __shared__ multiplied m;
  const int32 count = minimum((int32)a.Tile, a.Out - first);
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

// productStream does one tile of rows of weights in a block, all in one segment, for one row
// of x, R of them at a time.
template <int32 R> DEVICE void productStream(const productArgs &a) {
  __shared__ streamShared m;
  const int32 tile = (int32)a.Tile, first = (int32)blockIdx.x * tile;
  startNext();
  const Segment *s = segmentOf(a.Weights, a.Segments, first);
  const streamRows run = streamRowsOf(s, first, minimum(tile, a.Out - first));
  multiplyStream<R, 1>(&m, s->format, &run, a.X, a.In, awaitInput, [&](int32 from, float sum) {
    const int32 j = from + (int32)threadIdx.x;
    if (threadIdx.x < R && j <= run.last) a.Y[first + j] = sum;
  });
}

// productFew does one tile of rows of weights in a block, for all rows of x, up to most at
// a time.
template <int32 most> DEVICE void productFew(const productArgs &a) {
  multiplyRowsOfX<most>(a, (int32)blockIdx.x * (int32)a.Tile, 0, most == 1 ? 1 : a.Rows);
}

// productRows does one tile of rows of weights and N rows of x in a block, for weights that
// matrix units cannot multiply.
template <int32 N> DEVICE void productRows(const productArgs &a) {
  const int32 tiles = ceilDiv(a.Rows, N), row = (int32)blockIdx.x % tiles * N;
  multiplyRowsOfX<N>(a, (int32)blockIdx.x / tiles * (int32)a.Tile, row, minimum(row + N, a.Rows));
}

// productTiles does one tile of rows of weights and of x in a block, on matrix units. Tiles
// of x count fastest, so that the weights that one block reads are still in a cache for the
// next.
template <int32 N> DEVICE void productTiles(const productArgs &a) {
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

#if defined(WARPGROUPS)
// productWarpgroups does one tile of rows of weights and of x in a block, as productTiles
// does.
template <class Tile> DEVICE void productWarpgroups(const productArgs &a) {
#if defined(HAS_WARPGROUPS)
  TILES(shared, warpgroupShared + 8 * mostSteps);
  const int32 tiles = ceilDiv(a.Rows, Tile::N);
  const int32 first = (int32)blockIdx.x / tiles * Tile::rows, row = (int32)blockIdx.x % tiles * Tile::N;
  const int32 last = minimum(first + Tile::rows, a.Out) - 1;
#pragma unroll 1
  for (int32 start = first, end; start <= last; start = end + 1) { // once, unless formats differ within the tile
    end = lastOfFormat(a.Weights, a.Segments, start, last);
    const auto weightRow = [&](int32 r) { return minimum(maximum(first + r, start), end); };
    warpgroupSums<Tile>(shared, a.Weights, a.Segments, weightRow, {a.Parts, a.Rows}, row, a.In, [&](int32 i, int32 r, float low, float high) {
      if (row + i >= a.Rows) return;
      float *const y = a.Y + (int64)(row + i) * a.Out;
      if (start <= first + r && first + r <= end) y[first + r] = low;
      if (start <= first + r + 8 && first + r + 8 <= end) y[first + r + 8] = high;
    });
  }
#endif
}
#endif

#if defined(WARPGROUPS)
// productFewRows does one tile of rows of weights in a block, all in one segment, for up to
// 4 · X rows of x: see few.h.
template <int32 X> DEVICE void productFewRows(const productArgs &a) {
#if defined(HAS_WARPGROUPS)
  TILES(shared, fewShared);
  const int32 tile = (int32)a.Tile, first = (int32)blockIdx.x * tile, count = minimum(tile, a.Out - first);
  startNext();
  const Segment *s = segmentOf(a.Weights, a.Segments, first);
  const streamRows run = streamRowsOf(s, first, count);
  const fewTile<X> all = fewSums<X>(shared, s->format, [&](int32 r) { return rowOfRun(run, r); }, fewXOf(a.Parts, a.Rows, a.In),
                                    [&](int32 i) { return minimum(i, a.Rows - 1); }, 16 * fewWaves / tile, a.In, awaitInput);
  for (int32 k = (int32)threadIdx.x; k < a.Rows * count; k += fewThreads) a.Y[(int64)(k / count) * a.Out + first + k % count] = all.sum(k / count, k % count);
#endif
}
#endif
