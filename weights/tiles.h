// sums[i][j] = Σ_c w[j][c] · x[i][c] for a tile of rows of weights and of x, on matrix
// units. In the formats that tiles multiply, a weight with its power-of-two scale is a
// bfloat16, except for overflow and underflow. x is rounded to a bfloat16, and the rest to
// a second: the two parts leave out |x| · 2^−18. Products are exact; sums are float32:
// within a piece of columns in an order of the matrix unit's own, then over the pieces of a
// wave, then over the waves that share the columns. The second part of infinity, of NaN,
// and of an x that is rounded to infinity is 0, so infinite weights may give NaN where
// float32 gives infinity.
//
// Weights go from memory to the lanes that multiply them, a step ahead; x goes through
// shared memory, as all waves need it:
//
//	                 wave 0, 1       columns of a step, halved between two waves where
//	weights          wave 2, 3       a tile has fewer than 64 rows of x
//	                 …
//	      ×
//	x (shared)       all rows, columns of a step

constexpr int32 tileChunk = 64; // columns that a wave takes at once

// tileSkips reports whether tiles skip 16 rows of x that do not exist. Wide pieces leave no
// registers for the choice.
constexpr bool tileSkips = Piece::lanes > 1;

// Tiling is how a block of tileThreads divides N rows of x: with narrowTile rows of
// weights, or wideTile from wideTiles rows of x on, all of which Go gives. A wave takes
// 16 rows of weights for every 32 lanes.
template <int32 N> struct Tiling {
  static constexpr int32 strips = waveSize / 32;             // of 16 rows of weights, for a wave
  static constexpr int32 rows = N < wideTiles ? narrowTile : wideTile; // of weights, for a block
  static constexpr int32 split = tileThreads / 32 * 16 / rows; // waves that share the columns
  static constexpr int32 chunks = N == 16 ? 2 : 1;           // of a wave in a step
  static constexpr int32 columns = tileChunk * chunks * split; // of a step
  static constexpr int32 pieces = tileChunk / 16 / Piece::lanes * chunks; // of a wave in a step
};

// tileShared is the shared memory of a block. A row of x is padded so that lanes that
// read one column of 8 rows find them in different banks.
template <int32 N> struct tileOfX {
  alignas(16) uint16 high[N][Tiling<N>::columns + 8];
  alignas(16) uint16 low[N][Tiling<N>::columns + 8];
};
template <int32 N> union tileShared {
  tileOfX<N> x;
  float sums[Tiling<N>::split][16][Tiling<N>::rows + 4]; // of 16 rows of x
};

// A tile codec loads and decodes 16 columns of a row of weights.
struct tileBF16 {
  struct stored {
    Uint32x4 at[2];
  };
  DEVICE void load(stored *s, const storedRow &row, uint32 c) {
#pragma unroll
    for (int32 i = 0; i < 2; i++) s->at[i] = *(const Uint32x4 *)(row.data + 2 * c + 16 * i);
  }
  DEVICE void decode(uint32 *pairs, const stored &s) {
#pragma unroll
    for (int32 p = 0; p < 8; p++) pairs[p] = s.at[p / 4].at[p % 4];
  }
};

struct tileMXFP8 {
  struct stored {
    Uint32x4 at;
    uint32 scale;
  };
  DEVICE void load(stored *s, const storedRow &row, uint32 c) {
    s->at = *(const Uint32x4 *)(row.data + c);
    s->scale = row.scale[c / 32];
  }
  DEVICE void decode(uint32 *pairs, const stored &s) {
    const float scale = floatOfE8M0(s.scale);
    uint32 nan = 0;
#pragma unroll
    for (int32 q = 0; q < 4; q++) {
      float v[4];
      codecMXFP8::decode(v, s.at, q, nan);
#pragma unroll
      for (int32 p = 0; p < 2; p++) {
        pairs[2 * q + p] = bitsOfFloat(v[2 * p] * scale) >> 16 | (bitsOfFloat(v[2 * p + 1] * scale) & 0xffff0000u);
      }
    }
    if (codecMXFP8::isNaN(nan)) pairs[0] = 0x7fc07fc0u;
  }
};

// Codes of four bits with their scales have at most six bits. The factor of an NVFP4 matrix is
// multiplied with the sums.
struct tileMXFP4 {
  struct stored {
    uint64 codes;
    uint32 scale;
  };
  DEVICE void load(stored *s, const storedRow &row, uint32 c) {
    s->codes = *(const uint64 *)(row.data + c / 2);
    s->scale = row.scale[c / 32];
  }
  DEVICE void decode(uint32 *pairs, const stored &s) { scaled(pairs, s.codes, floatOfE8M0(s.scale)); }
  DEVICE void scaled(uint32 *pairs, uint64 codes, float scale) {
#pragma unroll
    for (int32 p = 0; p < 8; p++) {
      const uint32 both = (uint32)(codes >> 8 * p);
      pairs[p] = bitsOfFloat(floatOfE2M1(both) * scale) >> 16 | (bitsOfFloat(floatOfE2M1(both >> 4) * scale) & 0xffff0000u);
    }
  }
};

struct tileNVFP4 : tileMXFP4 {
  DEVICE void load(stored *s, const storedRow &row, uint32 c) {
    s->codes = *(const uint64 *)(row.data + c / 2);
    s->scale = row.scale[c / 16];
  }
  DEVICE void decode(uint32 *pairs, const stored &s) { scaled(pairs, s.codes, floatOfE4M3(s.scale)); }
};

// lastOfFormat returns the last row of weights up to which, from first on, all are stored
// in one format; at most last.
DEVICE int32 lastOfFormat(const Segment *segments, int32 n, int32 first, int32 last) {
  const Segment *s = segmentOf(segments, n, first);
  for (const int32 format = s->format; s->first + s->rows <= last && s[1].format == format;) s++;
  return minimum(s->first + s->rows - 1, last);
}

// splitPair makes the two bfloat16 of each of two floats, the first in the lower half.
DEVICE void splitPair(uint32 *high, uint32 *low, float first, float second) {
#if defined(HAS_PACK_BF16)
  *high = packBF16(first, second);
  const float rests[2] = {first - floatOfBits(*high << 16), second - floatOfBits(*high & 0xffff0000u)};
  *low = packBF16(isFinite(rests[0]) ? rests[0] : 0, isFinite(rests[1]) ? rests[1] : 0);
#else
  const float values[2] = {first, second};
  uint32 rounded[2], rests[2];
#pragma unroll
  for (int32 i = 0; i < 2; i++) {
    rounded[i] = values[i] == values[i] ? bitsOfFloat(values[i]) + 0x8000u & 0xffff0000u : 0x7fc00000u;
    const float rest = values[i] - floatOfBits(rounded[i]);
    rests[i] = isFinite(rest) ? bitsOfFloat(rest) + 0x8000u : 0;
  }
  *high = rounded[0] >> 16 | rounded[1];
  *low = rests[0] >> 16 | (rests[1] & 0xffff0000u);
#endif
}

struct alignas(8) pairOfPairs {
  uint32 at[2];
};

// multiplyTiles adds to the sums of a wave's strips of 16 rows of weights and of the 16
// rows of x that are begun, of count ≤ N. weightRow(j) is row j of the tile of weights, as it is stored, rowOfX(i) the address of row i of
// x, for any j and i of a tile: cols is a multiple of 16, and all are aligned to 16 bytes.
template <class Codec, int32 N, class WeightRow, class RowOfX>
DEVICE void multiplyTiles(tileShared<N> *m, float (*sums)[N / 16][Piece::values], WeightRow weightRow, RowOfX rowOfX, int32 count, int32 cols) {
  typedef Tiling<N> tiling;
  typedef typename Codec::stored stored;
  constexpr int32 strips = tiling::strips, pieces = tiling::pieces;
  const int32 strip = (int32)waveIndex() / tiling::split * strips * 16;
  const int32 part = (int32)waveIndex() % tiling::split * tiling::chunks * tileChunk + 16 * pieceLane();

  storedRow rows[strips][Piece::rows];
#pragma unroll
  for (int32 s = 0; s < strips; s++) {
#pragma unroll
    for (int32 r = 0; r < Piece::rows; r++) rows[s][r] = weightRow(strip + 16 * s + pieceRow(r));
  }
  stored ahead[pieces][strips][Piece::rows];
  const auto loadWeights = [&](int32 at, int32 p) {
    const int32 c = minimum(at + part + p * Piece::lanes * 16, cols - 16); // after the last, x is 0
#pragma unroll
    for (int32 s = 0; s < strips; s++) {
#pragma unroll
      for (int32 r = 0; r < Piece::rows; r++) Codec::load(&ahead[p][s][r], rows[s][r], (uint32)c);
    }
  };

  // A thread has accesses of 4 columns of one row of x.
  constexpr int32 threads = tileThreads / N, accesses = tiling::columns / 4 / threads;
  const int32 xRow = (int32)threadIdx.x / threads, xColumn = (int32)threadIdx.x % threads * 4;
  const float *x = rowOfX(xRow);
  Float32x4 xAhead[accesses];
  const auto loadX = [&](int32 at) {
#pragma unroll
    for (int32 k = 0; k < accesses; k++) {
      const int32 c = at + xColumn + k * threads * 4;
      xAhead[k] = *(const Float32x4 *)(x + minimum(c, cols - 4));
#pragma unroll
      for (int32 i = 0; i < 4; i++) xAhead[k].at[i] = c < cols ? xAhead[k].at[i] : 0;
    }
  };

#pragma unroll
  for (int32 p = 0; p < pieces; p++) loadWeights(0, p);
  loadX(0);
#pragma unroll 1
  for (int32 at = 0; at < cols; at += tiling::columns) {
    __syncthreads(); // what was read of shared memory before
#pragma unroll
    for (int32 k = 0; k < accesses; k++) {
      pairOfPairs high, low;
#pragma unroll
      for (int32 p = 0; p < 2; p++) splitPair(&high.at[p], &low.at[p], xAhead[k].at[2 * p], xAhead[k].at[2 * p + 1]);
      const int32 c = xColumn + k * threads * 4;
      *(pairOfPairs *)&m->x.high[xRow][c] = high;
      *(pairOfPairs *)&m->x.low[xRow][c] = low;
    }
    __syncthreads();
    loadX(at + tiling::columns);
#pragma unroll
    for (int32 p = 0; p < pieces; p++) {
      Piece a[strips];
#pragma unroll
      for (int32 s = 0; s < strips; s++) {
#pragma unroll
        for (int32 r = 0; r < Piece::rows; r++) Codec::decode(a[s].pairs[r], ahead[p][s][r]);
      }
      loadWeights(at + tiling::columns, p);
      const int32 c = part + p * Piece::lanes * 16;
#pragma unroll
      for (int32 n = 0; n < N / 16; n++) {
        keepOrder();
        if (tileSkips && n > 0 && 16 * n >= count) continue;
        Piece high, low;
#pragma unroll
        for (int32 r = 0; r < Piece::rows; r++) {
          const int32 row = 16 * n + pieceRow(r);
#pragma unroll
          for (int32 q = 0; q < 2; q++) {
            const Uint32x4 h = *(const Uint32x4 *)&m->x.high[row][c + 8 * q], l = *(const Uint32x4 *)&m->x.low[row][c + 8 * q];
#pragma unroll
            for (int32 i = 0; i < 4; i++) high.pairs[r][4 * q + i] = h.at[i], low.pairs[r][4 * q + i] = l.at[i];
          }
        }
#pragma unroll
        for (int32 s = 0; s < strips; s++) multiplyPieces(sums[s][n], a[s], high, low);
      }
    }
  }
}

// factorSums multiplies the sums of a wave with the factors of their rows of weights.
template <int32 N, class WeightRow> DEVICE void factorSums(float (*sums)[N / 16][Piece::values], WeightRow weightRow) {
  typedef Tiling<N> tiling;
  const int32 strip = (int32)waveIndex() / tiling::split * tiling::strips * 16;
#pragma unroll
  for (int32 s = 0; s < tiling::strips; s++) {
#pragma unroll
    for (int32 i = 0; i < Piece::values; i++) {
      const storedRow row = weightRow(strip + 16 * s + pieceDRow(i));
#pragma unroll
      for (int32 n = 0; n < N / 16; n++) sums[s][n][i] = sums[s][n][i] * row.factor / row.divisor;
    }
  }
}

// shareSums puts the sums of the n-th 16 rows of x where all threads read them, as
// tileSum.
template <int32 N> DEVICE void shareSums(tileShared<N> *m, const float (*sums)[N / 16][Piece::values], int32 n) {
  typedef Tiling<N> tiling;
  const int32 strip = (int32)waveIndex() / tiling::split * tiling::strips * 16, part = (int32)waveIndex() % tiling::split;
  __syncthreads();
#pragma unroll
  for (int32 s = 0; s < tiling::strips; s++) {
#pragma unroll
    for (int32 i = 0; i < Piece::values; i++) m->sums[part][pieceDColumn(i)][strip + 16 * s + pieceDRow(i)] = sums[s][n][i];
  }
  __syncthreads();
}

template <int32 N> DEVICE float tileSum(const tileShared<N> *m, int32 i, int32 j) {
  float sum = m->sums[0][i % 16][j];
#pragma unroll
  for (int32 part = 1; part < Tiling<N>::split; part++) sum += m->sums[part][i % 16][j];
  return sum;
}

// eachTileSum calls with(i, j) for each row i < count of x and each row of weights j <
// columns, threads side by side over j, which may read tileSum of row i.
template <int32 N, class With> DEVICE void eachTileSum(tileShared<N> *m, const float (*sums)[N / 16][Piece::values], int32 count, int32 columns, With with) {
#pragma unroll
  for (int32 of = 0; of < N / 16; of++) {
    if (16 * of >= count) break;
    shareSums<N>(m, sums, of);
    for (int32 k = (int32)threadIdx.x; k < 16 * columns; k += tileThreads) {
      if (16 * of + k / columns < count) with(16 * of + k / columns, k % columns);
    }
  }
}

// tileSums multiplies weights of one format: row weightRow(j) of the matrix is row j of the
// tile. It calls with(i, j) as eachTileSum does.
template <int32 N, class WeightRow, class RowOfX, class With>
DEVICE void tileSums(tileShared<N> *m, const Segment *segments, int32 n, WeightRow weightRow, RowOfX rowOfX, int32 count, int32 cols, int32 columns, With with) {
  float sums[Tiling<N>::strips][N / 16][Piece::values] = {};
  const auto stored = [&](int32 j) {
    const int32 row = weightRow(j);
    return rowOf(segmentOf(segments, n, row), row);
  };
  switch (segmentOf(segments, n, weightRow(0))->format) {
  case MXFP8: multiplyTiles<tileMXFP8, N>(m, sums, stored, rowOfX, count, cols); break;
#if !defined(__CUDA_ARCH_FEAT_SM90_ALL) // there warpgroups multiply four bits, which is faster
  case MXFP4: multiplyTiles<tileMXFP4, N>(m, sums, stored, rowOfX, count, cols); break;
  case NVFP4:
    multiplyTiles<tileNVFP4, N>(m, sums, stored, rowOfX, count, cols);
    factorSums<N>(sums, stored);
    break;
#endif
  default: multiplyTiles<tileBF16, N>(m, sums, stored, rowOfX, count, cols);
  }
  eachTileSum<N>(m, sums, count, columns, with);
}
