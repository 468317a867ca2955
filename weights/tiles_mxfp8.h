// sums[i][j] = Σ_c w[j][c] · x[i][c] for a tile of rows of MXFP8 weights and of x rounded to
// MXFP8, on matrix units. CDNA 4 multiplies both as they are stored, with their scales, 128
// columns at a time. Other GPUs multiply them as bfloat16, which holds both exactly except
// for overflow and underflow: see tiles.h.

// quantizedRows is rows of x rounded to MXFP8, and what they stand for, as float32: all
// aligned to 16 bytes but the scales.
struct quantizedRows {
  const float *values;
  const uint8 *codes, *scales;
};

#if defined(HAS_MULTIPLY_ADD_SCALED)
// multiplyScaled is multiplyTiles for x as it is rounded: row i of the tile is row rowOfX(i).
// In shared memory a row of codes is padded, so that 16 lanes that read one column of 16
// rows use all banks alike.
template <int32 N, class WeightRow, class RowOfX>
DEVICE void multiplyScaled(tileShared<N> *m, float (*sums)[N / 16][Piece::values], WeightRow weightRow, const quantizedRows &x, RowOfX rowOfX, int32 count, int32 cols) {
  typedef Tiling<N> tiling;
  constexpr int32 strips = tiling::strips, taken = 128, columns = taken * tiling::split, stride = columns + 16;
  static_assert(N * stride <= (int32)sizeof(m->x.high) && N * columns / 32 <= (int32)sizeof(m->x.low), "room for codes and for scales");
  uint8 *const codes = (uint8 *)m->x.high, *const scales = (uint8 *)m->x.low;
  const int32 strip = (int32)waveIndex() / tiling::split * strips * 16, part = (int32)waveIndex() % tiling::split * taken;
  const int32 r = (int32)laneIndex() % 16, g = (int32)laneIndex() / 16, lastBlock = ceilDiv(cols, 32) - 1;

  storedRow rows[strips];
#pragma unroll
  for (int32 s = 0; s < strips; s++) rows[s] = weightRow(strip + 16 * s + r);
  Uint32x4 ahead[strips][2];
  uint32 aheadScale[strips];
  const auto loadWeights = [&](int32 at) {
#pragma unroll
    for (int32 s = 0; s < strips; s++) {
#pragma unroll
      for (int32 half = 0; half < 2; half++) {
        ahead[s][half] = *(const Uint32x4 *)(rows[s].data + minimum(at + part + 64 * half + 16 * g, cols - 16)); // after the last, x is 0
      }
      aheadScale[s] = rows[s].scale[minimum((at + part) / 32 + g, lastBlock)];
    }
  };

  // A thread has accesses of 16 codes, and one scale.
  constexpr int32 accesses = N * columns / 16 / tileThreads, blocks = columns / 32;
  Uint32x4 xAhead[accesses];
  uint8 xScale = 0;
  const int32 scaleRow = (int32)threadIdx.x / blocks, scaleBlock = (int32)threadIdx.x % blocks;
  const auto loadX = [&](int32 at) {
#pragma unroll
    for (int32 k = 0; k < accesses; k++) {
      const int32 i = ((int32)threadIdx.x + k * tileThreads) / (columns / 16), c = at + ((int32)threadIdx.x + k * tileThreads) % (columns / 16) * 16;
      xAhead[k] = *(const Uint32x4 *)(x.codes + rowOfX(i) * cols + minimum(c, cols - 16));
#pragma unroll
      for (int32 q = 0; q < 4; q++) xAhead[k].at[q] = c < cols ? xAhead[k].at[q] : 0;
    }
    if (scaleRow < N) xScale = x.scales[rowOfX(scaleRow) * (lastBlock + 1) + minimum(at / 32 + scaleBlock, lastBlock)];
  };

  loadWeights(0);
  loadX(0);
#pragma unroll 1
  for (int32 at = 0; at < cols; at += columns) {
    __syncthreads(); // what was read of shared memory before
#pragma unroll
    for (int32 k = 0; k < accesses; k++) {
      const int32 i = ((int32)threadIdx.x + k * tileThreads) / (columns / 16), c = ((int32)threadIdx.x + k * tileThreads) % (columns / 16) * 16;
      *(Uint32x4 *)(codes + i * stride + c) = xAhead[k];
    }
    if (scaleRow < N) scales[scaleRow * blocks + scaleBlock] = xScale;
    __syncthreads();
    loadX(at + columns);
    Uint32x4 a[strips][2];
    uint32 aScale[strips];
#pragma unroll
    for (int32 s = 0; s < strips; s++) a[s][0] = ahead[s][0], a[s][1] = ahead[s][1], aScale[s] = aheadScale[s];
    loadWeights(at + columns);
#pragma unroll
    for (int32 n = 0; n < N / 16; n++) {
      if (n > 0 && 16 * n >= count) continue;
      const uint8 *row = codes + (16 * n + r) * stride + part + 16 * g;
      const Uint32x4 b[2] = {*(const Uint32x4 *)row, *(const Uint32x4 *)(row + 64)};
      const uint32 bScale = scales[(16 * n + r) * blocks + part / 32 + g];
#pragma unroll
      for (int32 s = 0; s < strips; s++) multiplyAddScaled(sums[s][n], a[s], b, aScale[s], bScale);
    }
  }
}
#endif

// tileSumsQuantized is tileSums for weights that all are MXFP8, and rows rowOfX(i) of x.
template <int32 N, class WeightRow, class RowOfX, class With>
DEVICE void tileSumsQuantized(tileShared<N> *m, const Segment *segments, int32 n, WeightRow weightRow, const quantizedRows &x, RowOfX rowOfX, int32 count, int32 cols, int32 columns, With with) {
  float sums[Tiling<N>::strips][N / 16][Piece::values] = {};
  const auto stored = [&](int32 j) {
    const int32 row = weightRow(j);
    return rowOf(segmentOf(segments, n, row), row);
  };
#if defined(HAS_MULTIPLY_ADD_SCALED)
  multiplyScaled<N>(m, sums, stored, x, rowOfX, count, cols);
#else
  multiplyTiles<tileMXFP8, N>(m, sums, stored, [&](int32 i) { return x.values + rowOfX(i) * cols; }, count, cols);
#endif
  eachTileSum<N>(m, sums, count, columns, with);
}

// tileSumsOf is tileSumsQuantized, or tileSums of the values of x.
template <int32 N, bool quantized, class WeightRow, class RowOfX, class With>
DEVICE void tileSumsOf(tileShared<N> *m, const Segment *segments, int32 n, WeightRow weightRow, const quantizedRows &x, RowOfX rowOfX, int32 count, int32 cols, int32 columns, With with) {
  if constexpr (quantized) {
    tileSumsQuantized<N>(m, segments, n, weightRow, x, rowOfX, count, cols, columns, with);
  } else {
    tileSums<N>(m, segments, n, weightRow, [&](int32 i) { return x.values + rowOfX(i) * cols; }, count, cols, columns, with);
  }
}
