// y[i][j] = act(w[gate+j] · x[i], w[up+j] · x[i]): gateUp of this package, for a tile of
// columns.

// act = g · sigmoid(alpha · g) · (u + beta), g = min(gate, limit), u = clamp(up, ±limit):
// swiGLU of this package, in float64 except for the exponential, rounded once. A NaN
// stays: comparisons with it are false.
struct swiGLU {
  double alpha, limit, beta;
};

DEVICE float activate(const swiGLU &act, float gate, float up) {
  double g = gate, u = up;
  if (g > act.limit) g = act.limit;
  if (u > act.limit) u = act.limit;
  if (u < -act.limit) u = -act.limit;
  return (float)(g * (1 / (1 + exp64(-act.alpha * g))) * (u + act.beta));
}

struct gateUpShared {
  multiplied m; // the result is in m.sums
  float gate[multiplyRows][multiplyTile];
};

// multiplyGateUp does some of left rows of x, like multiplyFew, and returns how many.
template <int32 most, class RowOfX>
DEVICE int32 multiplyGateUp(gateUpShared *s, const Segment *segments, int32 n, int32 gate, int32 up, int32 count, swiGLU act, RowOfX rowOfX, int32 left, int32 cols) {
  const int32 i = (int32)threadIdx.x / multiplyTile, j = (int32)threadIdx.x % multiplyTile;
  int32 rows = multiplyRows; // the fewer of both halves: their weights may lie and be stored otherwise
#pragma unroll 1
  for (int32 half = 0; half < 2; half++) {
    rows = minimum(rows, multiplyFew<most>(&s->m, segments, n, half == 0 ? gate : up, count, rowOfX, left, cols));
    if (i < rows) {
      if (half == 0) {
        s->gate[i][j] = s->m.sums[i][j];
      } else if (j < count) {
        s->m.sums[i][j] = activate(act, s->gate[i][j], s->m.sums[i][j]);
      }
    }
    __syncthreads();
  }
  return rows;
}

static_assert(multiplyThreads >= multiplyRows * multiplyTile, "a thread for each product");

// gateUpStream is the same for one row of x, with gate and up weights that each lie in one
// segment and have one format. It stores the tile in y. See multiplyStream for ready.
template <class Ready>
DEVICE void gateUpStream(streamShared *m, const Segment *segments, int32 n, int32 gate, int32 up, int32 count, swiGLU act, const float *x, int32 cols, Ready ready, float *y) {
  constexpr int32 each = streamLoads / 2; // output columns of a group
  const Segment *s = segmentOf(segments, n, gate);
  const streamRows runs[2] = {streamRowsOf(s, gate, count), streamRowsOf(segmentOf(segments, n, up), up, count)};
  multiplyStream<streamLoads, 2>(m, s->format, runs, x, cols, ready, [&](int32 from, float sum) {
    const int32 j = from + (int32)threadIdx.x;
    const float product = swapLanes(sum, each); // up, in the lanes of gate
    if (threadIdx.x < each && j < count) y[j] = activate(act, sum, product);
  });
}

#if defined(WARPGROUPS) && defined(HAS_WARPGROUPS)
// multiplyGateUpWarpgroups is the same for many rows of x, by warpgroups: of 16 rows of a tile
// of weights 8 are of gate and 8 of up, so that one lane has both of an output column. It
// calls store(i, j, y[first+i][j]) for j < count, at most half a tile, and any i of a tile.
template <class Tile, class Store>
DEVICE void multiplyGateUpWarpgroups(uint8 *shared, const Segment *segments, int32 n, int32 gate, int32 up, int32 count, swiGLU act, const splitRows &x, int32 first, int32 cols, Store store) {
  const auto weightRow = [&](int32 r) { return (r % 16 < 8 ? gate : up) + minimum(r / 16 * 8 + r % 8, count - 1); };
  warpgroupSums<Tile>(shared, segments, n, weightRow, x, first, cols, [&](int32 i, int32 r, float low, float high) {
    const int32 j = r / 16 * 8 + r % 8;
    if (j < count) store(i, j, activate(act, low, high));
  });
}
#endif

#if defined(WARPGROUPS) && defined(HAS_WARPGROUPS)
// multiplyGateUpFew is the same for rows ≤ 4 · X rows of x, rowOfX of them, with gate and up
// weights as gateUpStream has them: see few.h. A block has half as many output columns as rows
// of weights.
template <int32 X, class RowOfX, class Ready, class Store>
DEVICE void multiplyGateUpFew(uint8 *shared, const Segment *segments, int32 n, int32 gate, int32 up, int32 count, swiGLU act, const fewX &x, RowOfX rowOfX, int32 rows, int32 split, int32 cols, Ready ready, Store store) {
  const Segment *s = segmentOf(segments, n, gate);
  const streamRows gates = streamRowsOf(s, gate, count), ups = streamRowsOf(segmentOf(segments, n, up), up, count);
  const auto weightRow = [&](int32 r) { return rowOfRun(r % 16 < 8 ? gates : ups, r / 16 * 8 + r % 8); };
  const fewTile<X> all = fewSums<X>(shared, s->format, weightRow, x, rowOfX, split, cols, ready);
  for (int32 k = (int32)threadIdx.x; k < rows * count; k += fewThreads) {
    const int32 i = k / count, j = k % count, r = j / 8 * 16 + j % 8;
    store(i, j, activate(act, all.sum(i, r), all.sum(i, r + 8)));
  }
}
#endif

// multiplyGateUpTiles is the same for many rows of x: a tile of weights is as many rows of
// gate as of up. It calls store(i, j, y[i][j]) for i < rows and j < count, at most
// half a tile. Row i of the tile is row rowOfX(i) of x, of which it multiplies the codes if
// quantized.
template <int32 N, bool quantized, class RowOfX, class Store>
DEVICE void multiplyGateUpTiles(tileShared<N> *m, const Segment *segments, int32 n, int32 gate, int32 up, int32 count, swiGLU act, const quantizedRows &x, RowOfX rowOfX, int32 rows, int32 cols, Store store) {
  constexpr int32 half = Tiling<N>::rows / 2;
  const auto weightRow = [&](int32 j) { return (j < half ? gate : up) + minimum(j % half, count - 1); };
  tileSumsOf<N, quantized>(m, segments, n, weightRow, x, rowOfX, rows, cols, half, [&](int32 i, int32 j) {
    if (j < count) store(i, j, activate(act, tileSum<N>(m, i, j), tileSum<N>(m, i, half + j)));
  });
}
