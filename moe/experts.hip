// y[pair][j] = act(w13_e[j] · x, w13_e[Out+j] · x), or w2_e[j] · x[pair], for the pairs
// that picked expert e. Go instantiates a kernel for each row of the tables in experts.go,
// whose twins are in experts_twin.go.

struct expertsArgs {
  const float *X;
  const uint8 *Codes, *Scales;
  float *Y;
  const Segment *Weights;
  const int32 *Offsets, *Order, *Active, *ActiveCount;
  double Alpha, Limit, Beta;
  int32 Segments, Pairs, PairsPerX, Experts, In, Out;
  int64 Tile;
};

// expertsStream has one block per picked expert and tile of output columns, for experts with
// one pair, each of whose matrices lies in one segment.
template <bool gated> DEVICE void expertsStream(const expertsArgs &a) {
  __shared__ streamShared m;
  const int32 tile = (int32)a.Tile, tiles = ceilDiv(a.Out, tile), slot = (int32)blockIdx.x / tiles;
  startNext();
  awaitInput();
  if (slot >= *a.ActiveCount) return;
  const int32 expert = a.Active[slot], first = (int32)blockIdx.x % tiles * tile, count = minimum(tile, a.Out - first);
  const int32 pair = a.Order[a.Offsets[expert]], row = expert * (gated ? 2 : 1) * a.Out + first;
  const float *x = a.X + (int64)(pair / a.PairsPerX) * a.In;
  float *y = a.Y + (int64)pair * a.Out + first;
  if constexpr (gated) {
    gateUpStream(&m, a.Weights, a.Segments, row, row + a.Out, count, {a.Alpha, a.Limit, a.Beta}, x, a.In, [] {}, y);
  } else {
    const Segment *s = segmentOf(a.Weights, a.Segments, row);
    const streamRows run = streamRowsOf(s, row, count);
    multiplyStream<streamLoads, 1>(&m, s->format, &run, x, a.In, [] {}, [&](int32 from, float sum) {
      const int32 j = from + (int32)threadIdx.x;
      if (threadIdx.x < streamLoads && j < count) y[j] = sum;
    });
  }
}

// expertsFew has one block per picked expert and tile of columns. It does up to most pairs
// at a time.
template <bool gated, int32 most> DEVICE void expertsFew(const expertsArgs &a) {
  __shared__ gateUpShared s;
  const int32 tiles = ceilDiv(a.Out, multiplyTile), slot = (int32)blockIdx.x / tiles;
  if (slot >= *a.ActiveCount) return;
  const int32 expert = a.Active[slot], first = (int32)blockIdx.x % tiles * multiplyTile, count = minimum(multiplyTile, a.Out - first);
  const int32 *picked = a.Order + a.Offsets[expert];
  const int32 pairs = a.Offsets[expert + 1] - a.Offsets[expert];
  const int32 row = expert * (gated ? 2 : 1) * a.Out + first;
  for (int32 pair = 0, n; pair < pairs; pair += n) {
    const auto rowOfX = [&](int32 i) { return a.X + (int64)(picked[pair + i] / a.PairsPerX) * a.In; };
    if (gated) {
      n = multiplyGateUp<most>(&s, a.Weights, a.Segments, row, row + a.Out, count, {a.Alpha, a.Limit, a.Beta}, rowOfX, pairs - pair, a.In);
    } else {
      n = multiplyFew<most>(&s.m, a.Weights, a.Segments, row, count, rowOfX, pairs - pair, a.In);
    }
    const int32 i = (int32)threadIdx.x / multiplyTile, j = (int32)threadIdx.x % multiplyTile;
    if (i < n && j < count) a.Y[(int64)picked[pair + i] * a.Out + first + j] = s.m.sums[i][j];
    __syncthreads();
  }
}

// expertsTiles is for experts with many pairs. A block multiplies a tile of the weights of
// an expert with all its pairs on matrix units, N at a time. It reads the weights again for
// every N.
template <bool gated, int32 N, bool quantized = false> DEVICE void expertsTiles(const expertsArgs &a) {
  __shared__ tileShared<N> m;
  constexpr int32 tile = Tiling<N>::rows / (gated ? 2 : 1);
  const int32 tiles = ceilDiv(a.Out, tile), slot = (int32)blockIdx.x / tiles;
  if (slot >= *a.ActiveCount) return;
  const int32 expert = a.Active[slot], first = (int32)blockIdx.x % tiles * tile, count = minimum(tile, a.Out - first);
  const int32 *picked = a.Order + a.Offsets[expert];
  const int32 pairs = a.Offsets[expert + 1] - a.Offsets[expert];
  const int32 row = expert * (gated ? 2 : 1) * a.Out + first;
#pragma unroll 1
  for (int32 pair = 0; pair < pairs; pair += N) {
    const auto rowOfX = [&](int32 i) { return (int64)(picked[minimum(pair + i, pairs - 1)] / a.PairsPerX); };
    const quantizedRows x = {a.X, a.Codes, a.Scales};
    const auto store = [&](int32 i, int32 j, float y) { a.Y[(int64)picked[pair + i] * a.Out + first + j] = y; };
    const int32 rows = minimum(N, pairs - pair);
    if constexpr (gated) {
      multiplyGateUpTiles<N, quantized>(&m, a.Weights, a.Segments, row, row + a.Out, count, {a.Alpha, a.Limit, a.Beta}, x, rowOfX, rows, a.In, store);
    } else {
      const auto weightRow = [&](int32 j) { return row + minimum(j, count - 1); };
      tileSumsOf<N, quantized>(&m, a.Weights, a.Segments, weightRow, x, rowOfX, rows, a.In, tile, [&](int32 i, int32 j) {
        if (j < count) store(i, j, tileSum<N>(&m, i, j));
      });
    }
  }
}

#if defined(WARPGROUPS)
#if defined(HAS_WARPGROUPS)
// expertFewRows multiplies count output columns of an expert's weights, from row on, with rows
// rows of x.
template <bool gated, int32 X, class RowOfX, class Store>
DEVICE void expertFewRows(uint8 *shared, const expertsArgs &a, int32 row, int32 count, RowOfX rowOfX, int32 rows, Store store) {
  const fewX x = fewXOf(a.Codes, a.Pairs / a.PairsPerX, a.In);
  const int32 split = (gated ? 8 : 16) * fewWaves / (int32)a.Tile;
  if constexpr (gated) {
    multiplyGateUpFew<X>(shared, a.Weights, a.Segments, row, row + a.Out, count, {a.Alpha, a.Limit, a.Beta}, x, rowOfX, rows, split, a.In, [] {}, store);
  } else {
    const Segment *s = segmentOf(a.Weights, a.Segments, row);
    const streamRows run = streamRowsOf(s, row, count);
    const fewTile<X> all = fewSums<X>(shared, s->format, [&](int32 r) { return rowOfRun(run, r); }, x, rowOfX, split, a.In, [] {});
    for (int32 k = (int32)threadIdx.x; k < rows * count; k += fewThreads) store(k / count, k % count, all.sum(k / count, k % count));
  }
}
#endif

// expertsFewRows is for experts with few pairs: see few.h. A block multiplies a tile of the
// weights of an expert with up to 8 pairs at a time.
template <bool gated> DEVICE void expertsFewRows(const expertsArgs &a) {
#if defined(HAS_WARPGROUPS)
  TILES(shared, fewShared);
  const int32 tile = (int32)a.Tile, tiles = ceilDiv(a.Out, tile), slot = (int32)blockIdx.x / tiles;
  startNext();
  awaitInput();
  if (slot >= *a.ActiveCount) return;
  const int32 expert = a.Active[slot], first = (int32)blockIdx.x % tiles * tile, count = minimum(tile, a.Out - first);
  const int32 *const picked = a.Order + a.Offsets[expert];
  const int32 pairs = a.Offsets[expert + 1] - a.Offsets[expert], row = expert * (gated ? 2 : 1) * a.Out + first;
  for (int32 pair = 0; pair < pairs; pair += 8) {
    const int32 rows = minimum(8, pairs - pair);
    const auto rowOfX = [&](int32 i) { return picked[pair + minimum(i, rows - 1)] / a.PairsPerX; };
    const auto store = [&](int32 i, int32 j, float y) { a.Y[(int64)picked[pair + i] * a.Out + first + j] = y; };
    if (rows <= 4) {
      expertFewRows<gated, 1>(shared, a, row, count, rowOfX, rows, store);
    } else {
      expertFewRows<gated, 2>(shared, a, row, count, rowOfX, rows, store);
    }
    __syncthreads();
  }
#endif
}

// expertsWarpgroups is for experts with many pairs, by warpgroups: see WarpgroupsOf.
template <bool gated, class Tile> DEVICE void expertsWarpgroups(const expertsArgs &a) {
#if defined(HAS_WARPGROUPS)
  TILES(shared, warpgroupShared + 8 * mostSteps);
  constexpr int32 tile = Tile::rows / (gated ? 2 : 1);
  const int32 tiles = ceilDiv(a.Out, tile), slot = (int32)blockIdx.x / tiles;
  if (slot >= *a.ActiveCount) return;
  const int32 expert = a.Active[slot], first = (int32)blockIdx.x % tiles * tile, count = minimum(tile, a.Out - first);
  const int32 begin = a.Offsets[expert], end = a.Offsets[expert + 1], row = expert * (gated ? 2 : 1) * a.Out + first;
#pragma unroll 1
  for (int32 from = begin & ~7; from < end; from += Tile::N) { // in their order x is split
    const auto there = [&](int32 i) { return from + i >= begin && from + i < end; };
    const auto rowOfY = [&](int32 i) { return a.Y + (int64)a.Order[from + i] * a.Out + first; };
    if constexpr (gated) {
      multiplyGateUpWarpgroups<Tile>(shared, a.Weights, a.Segments, row, row + a.Out, count, {a.Alpha, a.Limit, a.Beta}, {a.Codes, a.Pairs}, from, a.In, [&](int32 i, int32 j, float y) {
        if (there(i)) rowOfY(i)[j] = y;
      });
    } else {
      const auto weightRow = [&](int32 r) { return row + minimum(r, count - 1); };
      warpgroupSums<Tile>(shared, a.Weights, a.Segments, weightRow, {a.Codes, a.Pairs}, from, a.In, [&](int32 i, int32 r, float low, float high) {
        if (!there(i)) return;
        if (r < count) rowOfY(i)[r] = low;
        if (r + 8 < count) rowOfY(i)[r + 8] = high;
      });
    }
  }
#endif
}
#endif
