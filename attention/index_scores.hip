// score[row][g][block] = max over the visible keys j of the block of index_q[g] ·
// index_k[j], −Inf without one, NaN where a product is: one block per row and chunk of
// blocks of keys. The twin is scoresTwin. All in float32.

struct scoresArgs {
  const float *IndexQ;
  const void *IndexKeys;
  const int32 *Batch;
  float *Scores;
  int64 Stride;
  int32 Rows, Sequences, TableEntries, PresenceWords;
  int32 IndexHeads, IndexDim, BlockSize, Format;
  int32 ScoreBlocks, ChunkBlocks;
};

// A block has scoreThreads threads; Go defines the number. keyLanes neighboring threads
// multiply laneKeys keys with scoreHeads heads, one piece of pieceColumns columns each at a
// time. queryPieces pieces of the queries fit into shared memory.
constexpr int32 keyLanes = 8, laneKeys = 4, scoreHeads = 4, pieceColumns = 8, queryPieces = 32;
constexpr int32 keyGroups = scoreThreads / keyLanes, queryColumns = queryPieces * pieceColumns, products = scoreHeads * laneKeys;
static_assert(products == 2 * keyLanes, "each lane of a key is left with two products of one head");

struct scoreState {
  Float32x4 q[scoreHeads][2][queryPieces]; // the halves of pieces: reads of lanes meet in no bank
  float best[scoreThreads / waveSize][scoreHeads];
};

// loadIndexQueries brings columns from first on into shared memory, zero after the last.
DEVICE void loadIndexQueries(scoreState *s, const float *q, int32 heads, int32 dim, int32 first) {
  __syncthreads();
  for (int32 i = (int32)threadIdx.x; i < scoreHeads * queryColumns; i += scoreThreads) {
    const int32 g = i / queryColumns, column = i % queryColumns;
    const bool there = g < heads && first + column < dim;
    s->q[g][column / 4 % 2][column / pieceColumns].at[column % 4] = there ? q[(int64)g * dim + first + column] : 0;
  }
  __syncthreads();
}

// multiplyKeys adds the products of a thread's pieces, columns first to end, of keys
// key, key + keyGroups, … below visible: sums[g·laneKeys + j] for key j. Keys are read 16
// bytes at a time, or 8 of e4m3, which divides the length of a key.
template <int32 format> DEVICE void multiplyKeys(float *sums, const scoreState *s, const scoresArgs &a, int64 page, int32 key, int32 visible, int32 first, int32 end) {
#pragma unroll 1
  for (int32 column = first + (int32)threadIdx.x % keyLanes * pieceColumns; column < end; column += keyLanes * pieceColumns) {
    Uint32x4 raw[laneKeys] = {};
#pragma unroll
    for (int32 half = 0; half < 2; half++) {
      if (format != cacheF32 ? half == 0 : column + 4 * half < end) {
#pragma unroll
        for (int32 j = 0; j < laneKeys; j++) {
          const int64 at = (page + key + j * keyGroups) * a.IndexDim + column + 4 * half;
          if (key + j * keyGroups >= visible) continue;
          if (format == cacheFP8) {
            const uint64 codes = *(const uint64 *)((const uint8 *)a.IndexKeys + at);
            raw[j].at[0] = (uint32)codes, raw[j].at[1] = (uint32)(codes >> 32);
          } else {
            raw[j] = *(const Uint32x4 *)((const uint8 *)a.IndexKeys + at * (format == cacheBF16 ? 2 : 4));
          }
        }
      } else if (format == cacheF32) {
        break; // the last column was reached
      }
      Float32x4 keys[laneKeys];
#pragma unroll
      for (int32 j = 0; j < laneKeys; j++) {
#pragma unroll
        for (int32 i = 0; i < 4; i++) {
          const uint32 word = raw[j].at[format == cacheFP8 ? half : format == cacheBF16 ? 2 * half + i / 2 : i];
          keys[j].at[i] = format == cacheFP8   ? floatOfE4M3(word >> (8 * i) & 0xffu)
                          : format == cacheF32 ? floatOfBits(word)
                          : i % 2 == 0         ? floatOfBF16(word & 0xffffu)
                                               : floatOfBits(word & 0xffff0000u);
        }
      }
#pragma unroll
      for (int32 g = 0; g < scoreHeads; g++) {
        const Float32x4 q = s->q[g][half][(column - first) / pieceColumns];
#pragma unroll
        for (int32 j = 0; j < laneKeys; j++) {
#pragma unroll
          for (int32 i = 0; i < 4; i++) sums[g * laneKeys + j] = fusedMultiplyAdd(q.at[i], keys[j].at[i], sums[g * laneKeys + j]);
        }
      }
    }
  }
}

// multiplyOddKeys does the same for keys of any length, a value at a time.
DEVICE void multiplyOddKeys(float *sums, const scoreState *s, const scoresArgs &a, int64 page, int32 key, int32 visible, int32 first, int32 end) {
#pragma unroll 1
  for (int32 column = first + (int32)threadIdx.x % keyLanes; column < end; column += keyLanes) {
    const int32 at = column - first;
#pragma unroll
    for (int32 j = 0; j < laneKeys; j++) {
      const int32 slot = key + j * keyGroups;
      const float k = slot < visible ? cached(a.IndexKeys, a.Format, (page + slot) * a.IndexDim + column) : 0;
#pragma unroll
      for (int32 g = 0; g < scoreHeads; g++) sums[g * laneKeys + j] = fusedMultiplyAdd(s->q[g][at / 4 % 2][at / pieceColumns].at[at % 4], k, sums[g * laneKeys + j]);
    }
  }
}

KERNEL(scoreThreads) void index_scores(scoresArgs a) {
  __shared__ scoreState s;
  const int32 chunks = ceilDiv(a.ScoreBlocks, a.ChunkBlocks), dim = a.IndexDim, size = a.BlockSize;
  const int32 row = (int32)blockIdx.x / chunks, firstBlock = (int32)blockIdx.x % chunks * a.ChunkBlocks;
  const int32 endBlock = minimum(firstBlock + a.ChunkBlocks, a.ScoreBlocks);
  const rowContext c = contextOf(viewBatch(a.Batch, a.Rows, a.Sequences, a.TableEntries), row);
  const int32 lane = (int32)threadIdx.x % keyLanes, group = (int32)threadIdx.x / keyLanes;
  for (int32 firstHead = 0; firstHead < a.IndexHeads; firstHead += scoreHeads) {
    const int32 heads = minimum(scoreHeads, a.IndexHeads - firstHead);
    const float *q = a.IndexQ + row * a.Stride + (int64)firstHead * dim;
    if (dim <= queryColumns) loadIndexQueries(&s, q, heads, dim, 0);
    for (int32 block = firstBlock; block < endBlock; block++) {
      const int32 visible = c.keys(block, size);
      const int64 page = visible > 0 ? (int64)c.table[block] * size : 0;
      float best = -infinity(); // of one head
      // All threads run the same number of turns, since the lanes of a key add up their
      // products together.
      for (int32 from = 0; from < visible; from += keyGroups * laneKeys) {
        const int32 key = from + group;
        float sums[products] = {};
        for (int32 first = 0; first < dim; first += queryColumns) {
          const int32 end = minimum(first + queryColumns, dim);
          if (dim > queryColumns) loadIndexQueries(&s, q, heads, dim, first);
          if (a.Format == cacheBF16 && dim % 8 == 0) {
            multiplyKeys<cacheBF16>(sums, &s, a, page, key, visible, first, end);
          } else if (a.Format == cacheFP8 && dim % 8 == 0) {
            multiplyKeys<cacheFP8>(sums, &s, a, page, key, visible, first, end);
          } else if (a.Format == cacheF32 && dim % 4 == 0) {
            multiplyKeys<cacheF32>(sums, &s, a, page, key, visible, first, end);
          } else {
            multiplyOddKeys(sums, &s, a, page, key, visible, first, end);
          }
        }
        waveSumEach<products, keyLanes / 2>(sums);
#pragma unroll
        for (int32 i = 0; i < 2; i++) {
          const int32 slot = key + ((2 * lane + i) % laneKeys) * keyGroups;
          if (slot < visible && c.present((int64)block * size + slot)) best = larger(best, sums[i]);
        }
      }
      // Lanes that differ in other bits than these have other heads.
      best = larger(best, swapLanes(best, 1));
      best = waveFold<keepingLarger, waveSize / 2, keyLanes>(best);
      if (laneIndex() < keyLanes && lane % 2 == 0) s.best[waveIndex()][lane / 2] = best;
      __syncthreads();
      if ((int32)threadIdx.x < heads) {
        best = s.best[0][threadIdx.x];
        for (int32 w = 1; w < scoreThreads / (int32)waveSize; w++) best = larger(best, s.best[w][threadIdx.x]);
        a.Scores[((int64)row * a.IndexHeads + firstHead + (int32)threadIdx.x) * a.ScoreBlocks + block] = best;
      }
      __syncthreads();
    }
  }
}
