// Sparse attention on matrix units: 16 query heads of a KV head with 16 keys at a time, of one
// selected block. Products are exact, of keys and values as they are stored, which is bfloat16
// or e4m3, and of two bfloat16 for each query and for each weight of a value, which leave out up
// to 2^−16 of it. Sums are float32: of scores in an order of the matrix unit's own. The twin is
// sparseTwin; Go gives tileThreads, the most of a block.
//
// A block does R rows with the same heads. The waves of a row take its keys in turn, each with
// a softmax of its own, and add up their results at the end. With two for each:
//
//	keys         0 … 15    16 … 31    32 … 47    48 … 63   …
//	row 0        wave 0    wave 1     wave 0     wave 1
//	row 1        wave 2    wave 3     wave 2     wave 3
//	…
//
// Keys and values go from memory to the lanes that multiply them, a step ahead, and wait for no
// other wave. Neighboring rows mostly attend to the same keys: then one row's waves find in the
// nearest cache what another's have read.

#if defined(HAS_MATRIX_UNITS)
constexpr int32 tileRows = 16;        // of queries, and of keys
constexpr int32 tileListed = 64;      // selected blocks that are looked up together
constexpr int32 tilePieces = partDim / 16 / Piece::lanes;
constexpr int32 tileWaves = tileThreads / (int32)waveSize;
constexpr int32 tileSums = tileRows * partDim / (int32)waveSize; // of a lane

// What a lane has registers for: with narrow pieces it has the queries, too, and with the widest
// no keys and values ahead.
constexpr bool tileKeepsQueries = Piece::lanes == 4, tileAhead = Piece::lanes > 1;
constexpr int32 tileParts = tileKeepsQueries ? 1 : 2; // of queries in shared memory

// tileQueries is a part of a row's queries, as bfloat16. Rows are padded so that lanes that read
// one column of 8 of them find them in different banks.
struct alignas(16) tileQueries {
  uint16 at[tileRows][partDim + 8];
};

template <int32 R> struct tileState {
  union {
    tileQueries queries[R][tileParts];
    float sums[tileWaves / 2][tileSums + laneQueries][waveSize]; // of waves that hand theirs over
  };
  // A row's selected blocks: their numbers, their pages, and how many keys are visible.
  int32 blocks[R][tileListed], pages[R][tileListed], keys[R][tileListed];
  float tops[tileWaves][tileRows];
  bool some[tileWaves];
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

struct keepingMore {
  DEVICE float of(float a, float b) { return maximumNumber(a, b); }
};

// baseOf returns what weights are relative to: 2^(score − base). Without a score above −∞ they
// are all 0, and so is their sum, which makes the result NaN.
DEVICE float baseOf(float top) { return top == -infinity() ? 0.0f : top; }

// weighTile makes weights of a wave's scores, and brings the tops and the totals of its lanes to
// them. A NaN is never the top; as a weight it is in the total.
DEVICE void weighTile(float *s, float *tops, float *totals, float *shrink, float scale, uint32 mask) {
  float most[laneQueries];
#pragma unroll
  for (int32 n = 0; n < laneQueries; n++) most[n] = tops[n];
#pragma unroll
  for (int32 i = 0; i < Piece::values; i++) s[i] *= scale;
#pragma unroll
  for (int32 i = 0; i < Piece::values; i++) s[i] = mask >> scoreKey(i) & 1u ? s[i] : -infinity();
#pragma unroll
  for (int32 i = 0; i < Piece::values; i++) most[slotOf(i)] = maximumNumber(most[slotOf(i)], s[i]);
#pragma unroll
  for (int32 n = 0; n < laneQueries; n++) {
    most[n] = waveFold<keepingMore, firstQueryLane, lastQueryLane>(most[n]);
    shrink[n] = exp2Fast(tops[n] - baseOf(most[n]));
    totals[n] *= shrink[n];
    tops[n] = most[n];
  }
#pragma unroll
  for (int32 i = 0; i < Piece::values; i++) {
    s[i] = exp2Fast(s[i] - baseOf(most[slotOf(i)]));
    totals[slotOf(i)] += s[i];
  }
}

template <int32 R, class Format> DEVICE void sparseTiles(const sparseArgs &a) {
  typedef typename Format::stored Stored;
  __shared__ tileState<R> m;
  const int32 split = (int32)(blockDim.x / waveSize) / R; // waves of a row
  const int32 dim = a.HeadDim, size = a.BlockSize, blockSteps = ceilDiv(size, tileRows), each = a.KVHeads * a.Bundles;
  const int32 wave = sameInWave((int32)waveIndex()), r = wave / split, part = wave % split, thread = (int32)threadIdx.x % (split * (int32)waveSize);
  // The last rows, which see the most keys, come first.
  const int32 block = (int32)(gridDim.x - 1 - blockIdx.x), row = block / each * R + r;
  const bool exists = row < a.Rows;
  const headBundle t = bundleOf(a, minimum(row, a.Rows - 1) * each + block % each);
  const rowContext c = contextOf(viewBatch(a.Batch, a.Rows, a.Sequences, a.TableEntries), t.row);
  const Stored *const keyCache = (const Stored *)a.Keys, *const valueCache = (const Stored *)a.Values;
  const float scale = (float)((double)a.scoreScale() * 1.4426950408889634); // weights are powers of 2

  Piece queries[2][tileKeepsQueries ? tilePieces : 1]; // high and low
  if constexpr (tileKeepsQueries) {
#pragma unroll
    for (int32 of = 0; of < 2; of++) {
      stageQueries(of == 0 ? m.queries[r] : nullptr, of == 1 ? m.queries[r] : nullptr, t, dim, thread, split * (int32)waveSize);
      __syncthreads();
#pragma unroll
      for (int32 p = 0; p < tilePieces; p++) queries[of][p] = queryPiece(m.queries[r][0], p);
      __syncthreads();
    }
  } else {
    stageQueries(&m.queries[r][0], &m.queries[r][tileParts - 1], t, dim, thread, split * (int32)waveSize);
  }
  float sums[sumChunks][8][sumValues] = {}, tops[laneQueries], totals[laneQueries] = {};
#pragma unroll
  for (int32 n = 0; n < laneQueries; n++) tops[n] = -infinity();
  bool some = false;

  for (int32 from = 0; from < a.TopkBlocks; from += tileListed) {
    for (int32 i = thread; i < tileListed; i += split * (int32)waveSize) {
      const int32 b = exists && from + i < a.TopkBlocks ? t.block(from + i) : -1, n = b < 0 ? 0 : c.keys(b, size);
      m.blocks[r][i] = b, m.keys[r][i] = n, m.pages[r][i] = n > 0 ? c.table[b] : 0;
    }
    __syncthreads();
    // next finds the wave's next step that has keys: step n of a selected block.
    const int32 blocks = minimum(tileListed, a.TopkBlocks - from);
    int32 of = 0, n = part - split;
    tileStep ahead = {};
    const auto next = [&]() __attribute__((always_inline)) {
      for (;;) {
        for (n += split; n >= blockSteps; n -= blockSteps) of++;
        if (of >= blocks) return false;
        const int32 count = sameInWave(m.keys[r][of]) - n * tileRows;
        if (count <= 0) continue;
        ahead.first = ((int64)sameInWave(m.pages[r][of]) * a.KVHeads + t.kv) * size + n * tileRows;
        ahead.mask = (uint32)sameInWave((int32)presentOf(c, (int64)m.blocks[r][of] * size + n * tileRows, minimum(count, tileRows)));
        if (ahead.mask != 0) return true;
      }
    };
    Stored keys[tilePieces][Piece::rows][2], values[sumChunks][valueKeys];
    const auto getKeys = [&](const tileStep &step, int32 first, int32 last) __attribute__((always_inline)) {
      if (dim == partDim && step.mask == 0xffffu) loadKeys<true>(keys, keyCache, step, dim, first, last);
      else loadKeys<false>(keys, keyCache, step, dim, first, last);
    };
    const auto getValues = [&](const tileStep &step) __attribute__((always_inline)) {
      if (dim == partDim && step.mask == 0xffffu) loadValues<true>(values, valueCache, step, dim);
      else loadValues<false>(values, valueCache, step, dim);
    };
    bool more = next();
    if (tileAhead && more) getKeys(ahead, 0, tilePieces), getValues(ahead);
    while (more) {
      const tileStep now = ahead;
      more = next();
      if (!tileAhead) getKeys(now, 0, tilePieces);
      float s[Piece::values] = {}, rests[Piece::values] = {}, shrink[laneQueries];
#pragma unroll
      for (int32 p = 0; p < tilePieces; p++) {
        keepOrder();
        if constexpr (tileKeepsQueries) {
          multiplyScores(s, rests, queries[0][p], queries[1][p], keyPiece<Format>(keys[p]));
        } else {
          const int32 row = madeAgain(r);
          multiplyScores(s, rests, queryPiece(m.queries[row][0], p), queryPiece(m.queries[row][1], p), keyPiece<Format>(keys[p]));
        }
#pragma unroll
        for (int32 k = 0; k < Piece::values; k++) s[k] = madeHere(s[k]);
      }
#pragma unroll
      for (int32 k = 0; k < Piece::values; k++) s[k] += rests[k];
      if (!tileAhead) getValues(now);
      weighTile(s, tops, totals, shrink, scale, now.mask);
      const Weights w = weightsOf(s);
#pragma unroll
      for (int32 c = 0; c < sumChunks; c++) { // keys come where values were
        if (tileAhead && more) getKeys(ahead, tilePieces / sumChunks * c, tilePieces / sumChunks * (c + 1));
        addValues<Format>(sums[c], shrink, w, values[c]);
      }
      if (tileAhead && more) getValues(ahead);
      some = true;
    }
    __syncthreads();
  }

#pragma unroll
  for (int32 n = 0; n < laneQueries; n++) totals[n] = waveFold<adding, firstQueryLane, lastQueryLane>(totals[n]);
  if (split > 1) {
    // All waves of the row relative to its top.
#pragma unroll
    for (int32 n = 0; n < laneQueries; n++) m.tops[wave][laneQuery(n)] = tops[n];
    m.some[wave] = some;
    __syncthreads();
    float shrink[laneQueries];
#pragma unroll
    for (int32 n = 0; n < laneQueries; n++) {
      float most = -infinity();
      for (int32 w = 0; w < split; w++) most = maximumNumber(most, m.tops[r * split + w][laneQuery(n)]);
      shrink[n] = exp2Fast(tops[n] - baseOf(most));
      totals[n] *= shrink[n];
    }
    for (int32 w = 0; w < split; w++) some = some || m.some[r * split + w];
#pragma unroll
    for (int32 k = 0; k < tileSums; k++) (&sums[0][0][0])[k] *= shrink[slotOf(k % sumValues)];
    for (int32 half = split / 2; half > 0; half /= 2) {
      float(*const others)[waveSize] = m.sums[r * (split / 2) + part % half];
      if (part >= half && part < 2 * half) {
#pragma unroll
        for (int32 k = 0; k < tileSums; k++) others[k][laneIndex()] = (&sums[0][0][0])[k];
#pragma unroll
        for (int32 n = 0; n < laneQueries; n++) others[tileSums + n][laneIndex()] = totals[n];
      }
      __syncthreads();
      if (part < half) {
#pragma unroll
        for (int32 k = 0; k < tileSums; k++) (&sums[0][0][0])[k] += others[k][laneIndex()];
#pragma unroll
        for (int32 n = 0; n < laneQueries; n++) totals[n] += others[tileSums + n][laneIndex()];
      }
      __syncthreads();
    }
  }
  if (part > 0 || !exists) return;
#pragma unroll
  for (int32 i = 0; i < sumValues; i++) {
    const int32 h = laneQuery(slotOf(i));
    if (h >= t.heads) continue;
#pragma unroll
    for (int32 k = 0; k < sumChunks; k++) {
      const int32 column = 64 * k + 8 * sumGroup(i);
      if (column >= dim) continue;
      float *const out = a.Out + ((int64)t.row * a.Heads + t.head + h) * dim + column;
#pragma unroll
      for (int32 j = 0; j < 8; j++) out[j] = some ? sums[k][j][i] / totals[slotOf(i)] * a.ValueScale : 0;
    }
  }
}
#else // the table in sparse_attention.go asks for them
struct tileBF16 {};
struct tileE4M3 {};
template <int32, class> DEVICE void sparseTiles(const sparseArgs &) {}
#endif
