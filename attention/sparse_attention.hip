// out[h] = Σ softmax_j(q[h] · k[g][j] · HeadDim^−½) · v[g][j] over the visible keys of
// the selected blocks, for heads that do not fit sparse_attention_parts.hip: one block per row, KV
// head g and bundle of its query heads. The twin is sparseTwin. Keys come a chunk at a
// time; weights are relative to the largest score so far, and what was summed is scaled
// when that grows. All in float32.

// A block of attendThreads threads (Go defines the number) does attendHeads heads,
// attendKeys keys and attendColumns columns of the output at a time; attendLanes
// neighboring lanes multiply one key.
constexpr int32 attendHeads = 16, attendKeys = 64, attendColumns = 128, attendLanes = 8;
constexpr int32 attendParts = attendThreads / attendColumns; // threads that share a column's heads

struct attendState {
  float weights[attendKeys][attendHeads]; // scores, then exp(score − top)
  float top[attendHeads], total[attendHeads], shrink[attendHeads];
};

// scoreChunk fills the scores of the n keys from index first on, −∞ for absent ones.
DEVICE void scoreChunk(attendState *s, const sparseArgs &a, const rowContext &c, const float *q, int32 heads, int64 first, int64 position, int32 n, float scale) {
  const int32 dim = a.HeadDim, part = (int32)threadIdx.x % attendLanes;
  for (int32 from = 0; from < n; from += attendThreads / attendLanes) {
    const int32 slot = from + (int32)threadIdx.x / attendLanes;
    const bool present = slot < n && c.present(position + slot);
    float sums[attendHeads] = {};
    if (present) {
      for (int32 i = part; i < dim; i += attendLanes) {
        const float key = cached(a.Keys, a.Format, (first + slot) * dim + i);
#pragma unroll
        for (int32 h = 0; h < attendHeads; h++) {
          if (h < heads) sums[h] = fusedMultiplyAdd(q[h * dim + i], key, sums[h]);
        }
      }
    }
#pragma unroll
    for (int32 h = 0; h < attendHeads; h++) {
      const float sum = waveFold<adding, attendLanes / 2>(sums[h]);
      if (slot < n && part == h % attendLanes) s->weights[slot][h] = present ? sum * scale : -infinity();
    }
  }
}

// weighChunk makes weights of the scores of n keys, a wave for each head.
DEVICE void weighChunk(attendState *s, int32 heads, int32 n) {
  for (int32 h = (int32)waveIndex(); h < heads; h += attendThreads / waveSize) {
    float top = s->top[h];
    for (int32 k = (int32)laneIndex(); k < n; k += waveSize) top = larger(top, s->weights[k][h]);
    top = waveFold<keepingLarger>(top);
    const bool none = top == -infinity(); // of the keys so far
    float total = 0;
    for (int32 k = (int32)laneIndex(); k < n; k += waveSize) {
      const float w = none ? 0.0f : expFast(s->weights[k][h] - top);
      s->weights[k][h] = w;
      total += w;
    }
    total = waveSum(total);
    if (laneIndex() == 0) {
      const float shrink = none ? 1.0f : expFast(s->top[h] - top);
      s->shrink[h] = shrink;
      s->total[h] = s->total[h] * shrink + total;
      s->top[h] = top;
    }
  }
}

DEVICE void sparseAttention(const sparseArgs &a) {
  __shared__ attendState s;
  const int32 dim = a.HeadDim, size = a.BlockSize;
  const headBundle t = bundleOf(a, (int32)blockIdx.x);
  const rowContext c = contextOf(viewBatch(a.Batch, a.Rows, a.Sequences, a.TableEntries), t.row);
  const float scale = a.scoreScale();
  const int32 part = (int32)threadIdx.x / attendColumns;

  // One turn, where the bundle has no more heads and columns than fit.
  for (int32 turn = 0; turn < ceilDiv(t.heads, attendHeads) * ceilDiv(dim, attendColumns); turn++) {
    const int32 firstHead = turn / ceilDiv(dim, attendColumns) * attendHeads, heads = minimum(attendHeads, t.heads - firstHead);
    const int32 column = turn % ceilDiv(dim, attendColumns) * attendColumns + (int32)threadIdx.x % attendColumns;
    const float *q = t.q + (int64)firstHead * dim;
    float sums[attendHeads / attendParts] = {}; // of heads part, part + attendParts, …
    bool any = false;
    if (threadIdx.x < attendHeads) s.top[threadIdx.x] = -infinity(), s.total[threadIdx.x] = 0;
    __syncthreads();
    for (int32 k = 0; k < a.TopkBlocks; k++) {
      const int32 block = t.block(k);
      const int32 visible = block >= 0 ? c.keys(block, size) : 0;
      if (visible == 0) continue;
      const int64 stored = ((int64)c.table[block] * a.KVHeads + t.kv) * size, position = (int64)block * size;
      any = any || c.visible(block, size);
      for (int32 from = 0; from < visible; from += attendKeys) {
        const int32 n = minimum(attendKeys, visible - from);
        scoreChunk(&s, a, c, q, heads, stored + from, position + from, n, scale);
        __syncthreads();
        weighChunk(&s, heads, n);
        __syncthreads();
#pragma unroll
        for (int32 i = 0; i < attendHeads / attendParts; i++) sums[i] *= i * attendParts + part < heads ? s.shrink[i * attendParts + part] : 0;
        if (column < dim) {
          for (int32 slot = 0; slot < n; slot++) {
            if (!c.present(position + from + slot)) continue; // whatever its memory holds
            const float v = cached(a.Values, a.Format, (stored + from + slot) * dim + column);
#pragma unroll
            for (int32 i = 0; i < attendHeads / attendParts; i++) {
              if (i * attendParts + part < heads) sums[i] = fusedMultiplyAdd(s.weights[slot][i * attendParts + part], v, sums[i]);
            }
          }
        }
        __syncthreads();
      }
    }
    float *out = a.Out + ((int64)t.row * a.Heads + t.head + firstHead) * dim + column;
    if (column < dim) {
#pragma unroll
      for (int32 i = 0; i < attendHeads / attendParts; i++) {
        const int32 h = i * attendParts + part;
        if (h >= heads) continue;
        // There are keys, but no score above −∞: the softmax is NaN.
        if (s.total[h] == 0 && any) sums[i] = notANumber();
        out[(int64)h * dim] = any ? sums[i] / s.total[h] * a.ValueScale : 0;
      }
    }
    __syncthreads();
  }
}
