// What sparse_tiles.hip reads and multiplies: a row's queries, and keys and values in their
// cache's format, as pairs of bfloat16 in the lanes that multiply them.

#if defined(HAS_MATRIX_UNITS)
constexpr int32 tileRows = 16;        // of queries, and of keys
constexpr int32 tilePieces = partDim / 16 / Piece::lanes;

// tileQueries is a part of a row's queries, as bfloat16. Rows are padded so that lanes that read
// one column of 8 of them find them in different banks.
struct alignas(16) tileQueries {
  uint16 at[tileRows][partDim + 8];
};

// tileStep is 16 keys of a selected block, from stored vector first on, of which those of mask
// are there.
struct tileStep {
  int64 first;
  uint32 mask;

  // stored returns a key whose memory is: one that is there, or the first.
  __device__ int32 stored(int32 key) const { return mask >> key & 1u ? key : 0; }
};

// presentOf returns the bits of count ≤ 16 keys from position on.
DEVICE uint32 presentOf(const rowContext &c, int64 position, int32 count) {
  const uint32 all = (1u << count) - 1;
  if (!c.presence) return all;
  const int64 word = position / 32, last = (position + count - 1) / 32;
  const uint64 bits = c.presence[word] | (uint64)(last > word ? c.presence[last] : 0) << 32;
  return (uint32)(bits >> position % 32) & all;
}

// A tile format has eight columns of a key or value as they are stored, and makes four pairs of
// bfloat16 of them.
struct tileBF16 {
  typedef Uint32x4 stored;
  DEVICE Uint32x4 pairsOf(const stored &s) { return s; }
};

// E4m3 codes are moved to where a bfloat16 has its exponent, as floatOfE4M3 does with that of a
// float32.
struct tileE4M3 {
  struct alignas(8) stored {
    uint32 at[2];
  };
  DEVICE Uint32x4 pairsOf(const stored &s) {
    Uint32x4 pairs;
    uint32 nan = 0;
#pragma unroll
    for (int32 i = 0; i < 2; i++) {
      nan |= ((s.at[i] & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u; // 0x7f carries into the top bit
#pragma unroll
      for (int32 j = 0; j < 2; j++) {
        const uint32 codes = spreadBytes(s.at[i], j);
        pairs.at[2 * i + j] = timesPowerBF16<120>((codes & 0x80008000u) | (codes >> 4 & 0x07f007f0u));
      }
    }
    if (nan == 0) return pairs;
#pragma unroll
    for (int32 i = 0; i < 8; i++) {
      if ((s.at[i / 4] >> i % 4 * 8 & 0x7fu) == 0x7fu) pairs.at[i / 2] |= 0x7fc0u << i % 2 * 16;
    }
    return pairs;
  }
};

// tileColumn is the first of the lane's columns 8c … 8c+7 of piece p of queries and keys.
DEVICE int32 tileColumn(int32 p, int32 c) { return 8 * (Piece::lanes * (2 * p + c) + pieceLane()); }

// stageQueries brings queries to shared memory: the first part, or the second, or both.
DEVICE void stageQueries(tileQueries *high, tileQueries *low, const headBundle &t, int32 dim, int32 first, int32 step) {
  const bool aligned = ((uint64)t.q & 15) == 0;
  for (int32 i = first; i < tileRows * partDim / 4; i += step) {
    const int32 h = i / (partDim / 4), d = i % (partDim / 4) * 4;
    Float32x4 x = {};
    if (h < t.heads && d < dim) {
      const float *from = t.q + h * dim + d;
      if (aligned) {
        x = *(const Float32x4 *)from;
      } else {
#pragma unroll
        for (int32 j = 0; j < 4; j++) x.at[j] = from[j];
      }
    }
#pragma unroll
    for (int32 j = 0; j < 2; j++) {
      uint32 parts[2];
      splitDown(&parts[0], &parts[1], x.at[2 * j], x.at[2 * j + 1]);
      if (high) *(uint32 *)&high->at[h][d + 2 * j] = parts[0];
      if (low) *(uint32 *)&low->at[h][d + 2 * j] = parts[1];
    }
  }
}

DEVICE Piece queryPiece(const tileQueries &queries, int32 p) {
  Piece piece;
#pragma unroll
  for (int32 r = 0; r < Piece::rows; r++) {
#pragma unroll
    for (int32 c = 0; c < 2; c++) {
      const Uint32x4 x = *(const Uint32x4 *)&queries.at[pieceRow(r)][tileColumn(p, c)];
#pragma unroll
      for (int32 i = 0; i < 4; i++) piece.pairs[r][4 * c + i] = x.at[i];
    }
  }
  return piece;
}

// loadKeys reads keys for multiplyScores. Those that are not there are as others: they get no
// weight. Whole is a step of 16 keys of partDim columns: then all addresses are the same but for
// constants.
template <bool whole, class Stored> DEVICE void loadKeys(Stored (*keys)[Piece::rows][2], const Stored *cache, const tileStep &step, int32 headDim, int32 firstPiece, int32 lastPiece) {
  const int32 dim = whole ? partDim : madeAgain(headDim);
  const Stored *const from = cache + step.first * dim / 8;
  const Stored *const own = from + (uint32)((pieceRow(0) * dim + tileColumn(0, 0)) / 8);
#pragma unroll
  for (int32 r = 0; r < Piece::rows; r++) {
#pragma unroll
    for (int32 p = firstPiece; p < lastPiece; p++) {
#pragma unroll
      for (int32 c = 0; c < 2; c++) {
        const int32 column = tileColumn(p, c);
        const bool is = whole || column < dim;
        const Stored *const at = whole ? own + ((pieceRow(r) - pieceRow(0)) * partDim + column - tileColumn(0, 0)) / 8
                                       : from + (uint32)(step.stored(pieceRow(r)) * dim + (is ? column : 0)) / 8;
        const Stored x = *at;
        keys[p][r][c] = is ? x : Stored{};
      }
    }
  }
}

template <class Format> DEVICE Piece keyPiece(const typename Format::stored (*keys)[2]) {
  Piece piece;
#pragma unroll
  for (int32 r = 0; r < Piece::rows; r++) {
#pragma unroll
    for (int32 c = 0; c < 2; c++) {
      const Uint32x4 pairs = Format::pairsOf(keys[r][c]);
#pragma unroll
      for (int32 i = 0; i < 4; i++) piece.pairs[r][4 * c + i] = pairs.at[i];
    }
  }
  return piece;
}

// loadValues reads values for multiplyValues, zeros for keys that are not there, whatever their
// memory holds.
template <bool whole, class Stored> DEVICE void loadValues(Stored (*values)[valueKeys], const Stored *cache, const tileStep &step, int32 headDim) {
  const int32 dim = whole ? partDim : madeAgain(headDim);
  const Stored *const from = cache + step.first * dim / 8;
  const Stored *const own = from + (uint32)(valueKey(0) * dim / 8 + valueGroup());
#pragma unroll
  for (int32 n = 0; n < valueKeys; n++) {
#pragma unroll
    for (int32 c = 0; c < sumChunks; c++) {
      const int32 column = 64 * c + 8 * valueGroup();
      const bool is = whole || (column < dim && (step.mask >> valueKey(n) & 1u));
      const Stored *const at = whole ? own + ((valueKey(n) - valueKey(0)) * partDim + 64 * c) / 8
                                     : from + (uint32)(step.stored(valueKey(n)) * dim + (column < dim ? column : 0)) / 8;
      const Stored x = *at;
      values[c][n] = is ? x : Stored{};
    }
  }
}

// addValues adds weighted values to the sums of a wave, for a chunk of columns.
template <class Format> DEVICE void addValues(float (*sums)[sumValues], const float *shrink, const Weights &w, const typename Format::stored *stored) {
  Uint32x4 values[valueKeys];
#pragma unroll
  for (int32 n = 0; n < valueKeys; n++) values[n] = Format::pairsOf(stored[n]);
#pragma unroll
  for (int32 j = 0; j < 8; j += valueTiles) {
    uint32 pairs[valueTiles][valueKeys / 2];
#pragma unroll
    for (int32 k = 0; k < valueTiles; k++) {
#pragma unroll
      for (int32 n = 0; n < valueKeys / 2; n++) {
        const uint32 first = values[2 * n].at[(j + k) / 2], second = values[2 * n + 1].at[(j + k) / 2];
        pairs[k][n] = k % 2 == 0 ? lowerHalves(first, second) : upperHalves(first, second);
      }
    }
    multiplyValues(sums + j, shrink, w, pairs);
  }
}

#else // the table in sparse_attention.go asks for them
struct tileBF16 {};
struct tileE4M3 {};
#endif
