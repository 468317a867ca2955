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
constexpr int32 tileListed = 64;      // selected blocks that are looked up together
constexpr int32 tileWaves = tileThreads / (int32)waveSize;
constexpr int32 tileSums = tileRows * partDim / (int32)waveSize; // of a lane

// What a lane has registers for: with narrow pieces it has the queries, too, and with the widest
// no keys and values ahead.
constexpr bool tileKeepsQueries = Piece::lanes == 4, tileAhead = Piece::lanes > 1;
constexpr int32 tileParts = tileKeepsQueries ? 1 : 2; // of queries in shared memory

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
#else // the table in sparse_attention.go asks for it
template <int32, class> DEVICE void sparseTiles(const sparseArgs &) {}
#endif
