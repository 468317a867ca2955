// y[row][j] = act(w[j] · x[row], w[Out+j] · x[row]). Go instantiates a kernel for each row
// of the table in gate_up_swiglu.go, which has its twins.

struct gateUpSwiGLUArgs {
  const float *X;
  const uint8 *Codes, *Scales, *Parts;
  float *Y;
  const Segment *Weights;
  double Alpha, Limit, Beta;
  int32 Segments, Rows, In, Out;
  int64 Tile;
};

// gateUpSwiGLUStream does one tile of columns in a block, for one row.
DEVICE void gateUpSwiGLUStream(const gateUpSwiGLUArgs &a) {
  __shared__ streamShared m;
  const int32 tile = (int32)a.Tile, first = (int32)blockIdx.x * tile;
  startNext();
  gateUpStream(&m, a.Weights, a.Segments, first, a.Out + first, minimum(tile, a.Out - first), {a.Alpha, a.Limit, a.Beta}, a.X, a.In, awaitInput, a.Y + first);
}

// gateUpSwiGLUFew does one tile of columns in a block, for all rows, up to most at a time.
template <int32 most> DEVICE void gateUpSwiGLUFew(const gateUpSwiGLUArgs &a) {
  __shared__ gateUpShared s;
  const int32 first = (int32)blockIdx.x * multiplyTile, count = minimum(multiplyTile, a.Out - first);
  const int32 i = (int32)threadIdx.x / multiplyTile, j = (int32)threadIdx.x % multiplyTile;
  for (int32 row = 0, n; row < a.Rows; row += n) {
    const float *x = a.X + (int64)row * a.In;
    const auto rowOfX = [&](int32 r) { return x + (int64)r * a.In; };
    n = multiplyGateUp<most>(&s, a.Weights, a.Segments, first, a.Out + first, count, {a.Alpha, a.Limit, a.Beta}, rowOfX, a.Rows - row, a.In);
    if (i < n && j < count) a.Y[(int64)(row + i) * a.Out + first + j] = s.m.sums[i][j];
    __syncthreads();
  }
}

// gateUpSwiGLUTiles is for many rows: a block does one tile of columns and of rows; rows
// count fastest.
template <int32 N, bool quantized = false> DEVICE void gateUpSwiGLUTiles(const gateUpSwiGLUArgs &a) {
  __shared__ tileShared<N> m;
  constexpr int32 tile = Tiling<N>::rows / 2;
  const int32 tiles = ceilDiv(a.Rows, N);
  const int32 first = (int32)blockIdx.x / tiles * tile, row = (int32)blockIdx.x % tiles * N;
  const auto rowOfX = [&](int32 i) { return (int64)minimum(row + i, a.Rows - 1); };
  multiplyGateUpTiles<N, quantized>(&m, a.Weights, a.Segments, first, a.Out + first, minimum(tile, a.Out - first), {a.Alpha, a.Limit, a.Beta},
                                    {a.X, a.Codes, a.Scales}, rowOfX, minimum(N, a.Rows - row), a.In, [&](int32 i, int32 j, float y) { a.Y[(int64)(row + i) * a.Out + first + j] = y; });
}

#if defined(WARPGROUPS)
// gateUpSwiGLUFewRows is for up to 4 · X rows: see few.h.
template <int32 X> DEVICE void gateUpSwiGLUFewRows(const gateUpSwiGLUArgs &a) {
#if defined(HAS_WARPGROUPS)
  TILES(shared, fewShared);
  const int32 tile = (int32)a.Tile, first = (int32)blockIdx.x * tile;
  const auto rowOfX = [&](int32 i) { return minimum(i, a.Rows - 1); };
  startNext();
  multiplyGateUpFew<X>(shared, a.Weights, a.Segments, first, a.Out + first, minimum(tile, a.Out - first), {a.Alpha, a.Limit, a.Beta}, fewXOf(a.Parts, a.Rows, a.In), rowOfX, a.Rows, 8 * fewWaves / tile, a.In, awaitInput, [&](int32 i, int32 j, float y) {
    a.Y[(int64)i * a.Out + first + j] = y;
  });
#endif
}

// gateUpSwiGLUWarpgroups is for many rows as well: see WarpgroupsOf.
template <class Tile> DEVICE void gateUpSwiGLUWarpgroups(const gateUpSwiGLUArgs &a) {
#if defined(HAS_WARPGROUPS)
  TILES(shared, warpgroupShared + 8 * mostSteps);
  constexpr int32 tile = Tile::rows / 2;
  const int32 tiles = ceilDiv(a.Rows, Tile::N);
  const int32 first = (int32)blockIdx.x / tiles * tile, row = (int32)blockIdx.x % tiles * Tile::N;
  multiplyGateUpWarpgroups<Tile>(shared, a.Weights, a.Segments, first, a.Out + first, minimum(tile, a.Out - first), {a.Alpha, a.Limit, a.Beta}, {a.Parts, a.Rows}, row, a.In, [&](int32 i, int32 j, float y) {
    if (row + i < a.Rows) a.Y[(int64)(row + i) * a.Out + first + j] = y;
  });
#endif
}
#endif
