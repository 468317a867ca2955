// Attention a part at a time: up to partKeys keys of a selected block, with up to
// partHeads query heads of their KV head. A part's keys, then its values, lie in shared
// memory for all heads. Two kernels of the table in sparse_attention.go:
//
//	sparse_attention_parts   a block a part: few rows   twin sparsePartsTwin
//	sparse_attention_rows    a block a row's parts      twin sparseTwin
//
// All in float32. Go gives partThreads, partKeys, partHeads and partDim.

// Four floats more than a key, so that 16-byte reads of neighboring keys use different
// banks.
constexpr int32 partStride = partDim + 4;
// How many heads a thread does with half a key, and with a column of values.
constexpr int32 scoreHeads = 2 * partHeads * partKeys / partThreads, sumHeads = partHeads * partDim / partThreads;

struct partState {
  Float32x4 stored[partKeys][partStride / 4]; // keys, then values; zero where there is none
  Float32x4 q[partHeads][partDim / 4];
  float weights[partHeads][partKeys]; // scores, then weights
};

// keyPart is the n keys of one selected block from stored vector first on.
struct keyPart {
  int64 first, position;
  int32 n;

  __device__ bool holds(const rowContext &c, int32 key) const { return key < n && c.present(position + key); }
};

// partOf returns part i of a bundle.
DEVICE keyPart partOf(const sparseArgs &a, const headBundle &t, const rowContext &c, int32 i) {
  const int32 ofBlock = ceilDiv(a.BlockSize, partKeys), block = t.block(i / ofBlock), from = i % ofBlock * partKeys;
  const int32 n = block < 0 ? 0 : minimum(partKeys, c.keys(block, a.BlockSize) - from);
  if (n <= 0) return {0, 0, 0};
  return {((int64)c.table[block] * a.KVHeads + t.kv) * a.BlockSize + from, (int64)block * a.BlockSize + from, n};
}

DEVICE void loadQueries(partState *s, const headBundle &t, int32 dim) {
  for (int32 i = (int32)threadIdx.x; i < partHeads * dim; i += partThreads) {
    const int32 d = i % dim;
    s->q[i / dim][d / 4].at[d % 4] = i / dim < t.heads ? t.q[i] : 0;
  }
}

// loadPart brings a part's keys or values, without their scale, into shared memory: 16 bytes
// a thread, or 8 of e4m3.
DEVICE void loadPart(partState *s, const sparseArgs &a, const rowContext &c, const void *cache, const keyPart &part) {
  const int32 each = a.Format == cacheF32 ? 4 : 8, pieces = a.HeadDim / each;
#pragma unroll 4
  for (int32 i = (int32)threadIdx.x; i < partKeys * pieces; i += partThreads) {
    const int32 slot = i / pieces, piece = i % pieces;
    Uint32x4 raw = {};
    const int64 at = (part.first + slot) * pieces + piece;
    if (a.Format == cacheFP8) {
      const uint64 codes = part.holds(c, slot) ? ((const uint64 *)cache)[at] : 0;
#pragma unroll
      for (int32 j = 0; j < 8; j++) s->stored[slot][2 * piece + j / 4].at[j % 4] = floatOfE4M3((uint32)(codes >> (8 * j)) & 0xffu);
      continue;
    }
    if (part.holds(c, slot)) raw = ((const Uint32x4 *)cache)[at];
    if (a.Format == cacheBF16) {
      s->stored[slot][2 * piece] = {{floatOfBF16(raw.at[0] & 0xffffu), floatOfBits(raw.at[0] & 0xffff0000u), floatOfBF16(raw.at[1] & 0xffffu), floatOfBits(raw.at[1] & 0xffff0000u)}};
      s->stored[slot][2 * piece + 1] = {{floatOfBF16(raw.at[2] & 0xffffu), floatOfBits(raw.at[2] & 0xffff0000u), floatOfBF16(raw.at[3] & 0xffffu), floatOfBits(raw.at[3] & 0xffff0000u)}};
    } else {
      s->stored[slot][piece] = {{floatOfBits(raw.at[0]), floatOfBits(raw.at[1]), floatOfBits(raw.at[2]), floatOfBits(raw.at[3])}};
    }
  }
}

// scorePart fills the scores, −∞ for absent keys. Two neighboring threads do a key with
// scoreHeads heads, 16 columns in turn, so that eight threads use different banks.
DEVICE void scorePart(partState *s, const rowContext &c, const keyPart &part, int32 dim, float scale) {
  const int32 half = (int32)threadIdx.x % 2, key = (int32)threadIdx.x / 2 % partKeys, head = (int32)threadIdx.x / (2 * partKeys) * scoreHeads;
  float scores[scoreHeads] = {};
  for (int32 from = 4 * half; from < dim / 4; from += 8) {
#pragma unroll
    for (int32 c = 0; c < 4; c++) {
      const int32 i = from + c;
      if (i >= dim / 4) break;
      const Float32x4 k = s->stored[key][i];
#pragma unroll
      for (int32 h = 0; h < scoreHeads; h++) {
        const Float32x4 x = s->q[head + h][i];
#pragma unroll
        for (int32 j = 0; j < 4; j++) scores[h] = fusedMultiplyAdd(x.at[j], k.at[j], scores[h]);
      }
    }
  }
  const bool present = part.holds(c, key);
#pragma unroll
  for (int32 h = 0; h < scoreHeads; h++) {
    const float score = scores[h] + swapLanes(scores[h], 1);
    if (h % 2 == half) s->weights[head + h][key] = present ? score * scale : -infinity();
  }
}

// weighHead makes weights of the scores of a head, by one wave: relative to *top, which
// grows to the largest of them, and 1 while that is −∞. *total is their sum.
DEVICE void weighHead(partState *s, const rowContext &c, const keyPart &part, int32 head, float *top, float *total) {
  float most = *top, sum = 0;
  for (int32 k = (int32)laneIndex(); k < partKeys; k += (int32)waveSize) most = larger(most, s->weights[head][k]);
  most = waveFold<keepingLarger>(most);
  for (int32 k = (int32)laneIndex(); k < partKeys; k += (int32)waveSize) {
    const float w = !part.holds(c, k) ? 0.0f : most == -infinity() ? 1.0f : expFast(s->weights[head][k] - most);
    s->weights[head][k] = w;
    sum += w;
  }
  *top = most;
  *total = waveSum(sum);
}

// sumPart adds the part's weighted values to a column of sumHeads heads, four keys at a
// time: what follows the last is zero, and so are its weights.
DEVICE void sumPart(const partState *s, const keyPart &part, int32 head, int32 column, float *sums) {
  for (int32 k = 0; k < part.n; k += 4) {
    float v[4];
#pragma unroll
    for (int32 i = 0; i < 4; i++) v[i] = s->stored[k + i][column / 4].at[column % 4];
#pragma unroll
    for (int32 h = 0; h < sumHeads; h++) {
      const Float32x4 w = *(const Float32x4 *)&s->weights[head + h][k];
#pragma unroll
      for (int32 i = 0; i < 4; i++) sums[h] = fusedMultiplyAdd(w.at[i], v[i], sums[h]);
    }
  }
}

DEVICE void sparseParts(const sparseArgs &a) {
  __shared__ partState s;
  const int32 dim = a.HeadDim, parts = a.TopkBlocks * ceilDiv(a.BlockSize, partKeys), i = (int32)blockIdx.x % parts;
  const headBundle t = bundleOf(a, (int32)blockIdx.x / parts);
  const rowContext c = contextOf(viewBatch(a.Batch, a.Rows, a.Sequences, a.TableEntries), t.row);
  const keyPart part = partOf(a, t, c, i);
  const int64 at = ((int64)t.row * a.Heads + t.head) * parts + i; // of the first head, parts from the next
  float *values = a.Parts + at * dim, *weights = a.Parts + (int64)a.Rows * a.Heads * parts * dim + 2 * at;
  if (part.n == 0) { // for the whole block of threads
    for (int32 i = (int32)threadIdx.x; i < t.heads * dim; i += partThreads) values[(int64)(i / dim) * parts * dim + i % dim] = 0;
    if ((int32)threadIdx.x < t.heads) {
      float *w = weights + 2 * (int64)threadIdx.x * parts;
      w[0] = -infinity(), w[1] = 0;
    }
    return;
  }
  loadQueries(&s, t, dim);
  loadPart(&s, a, c, a.Keys, part);
  __syncthreads();
  scorePart(&s, c, part, dim, a.scoreScale());
  __syncthreads();
  loadPart(&s, a, c, a.Values, part);
  for (int32 h = (int32)waveIndex(); h < partHeads; h += partThreads / (int32)waveSize) {
    float top = -infinity(), total;
    weighHead(&s, c, part, h, &top, &total);
    if (laneIndex() == 0 && h < t.heads) {
      float *w = weights + 2 * (int64)h * parts;
      w[0] = top, w[1] = total;
    }
  }
  __syncthreads();
  const int32 column = (int32)threadIdx.x % partDim, head = (int32)threadIdx.x / partDim * sumHeads;
  if (column >= dim) return;
  float sums[sumHeads] = {};
  sumPart(&s, part, head, column, sums);
#pragma unroll
  for (int32 h = 0; h < sumHeads; h++) {
    if (head + h < t.heads) values[(int64)(head + h) * parts * dim + column] = sums[h] * a.ValueScale;
  }
}

DEVICE void sparseRows(const sparseArgs &a) {
  __shared__ partState s;
  __shared__ float tops[partHeads], totals[partHeads], shrinks[partHeads];
  const int32 dim = a.HeadDim, parts = a.TopkBlocks * ceilDiv(a.BlockSize, partKeys);
  const headBundle t = bundleOf(a, (int32)blockIdx.x);
  const rowContext c = contextOf(viewBatch(a.Batch, a.Rows, a.Sequences, a.TableEntries), t.row);
  const float scale = a.scoreScale();
  const int32 column = (int32)threadIdx.x % partDim, head = (int32)threadIdx.x / partDim * sumHeads;
  float sums[sumHeads] = {};
  if (threadIdx.x < partHeads) tops[threadIdx.x] = -infinity(), totals[threadIdx.x] = 0;
  loadQueries(&s, t, dim);
  for (int32 i = 0; i < parts; i++) {
    const keyPart part = partOf(a, t, c, i);
    if (part.n == 0) continue; // for the whole block of threads
    __syncthreads(); // the values of the part before are summed
    loadPart(&s, a, c, a.Keys, part);
    __syncthreads();
    scorePart(&s, c, part, dim, scale);
    __syncthreads();
    loadPart(&s, a, c, a.Values, part);
    for (int32 h = (int32)waveIndex(); h < partHeads; h += partThreads / (int32)waveSize) {
      const float before = tops[h];
      float top = before, total;
      weighHead(&s, c, part, h, &top, &total);
      if (laneIndex() == 0) {
        const float shrink = top == -infinity() ? 1.0f : expFast(before - top);
        shrinks[h] = shrink, tops[h] = top, totals[h] = fusedMultiplyAdd(totals[h], shrink, total);
      }
    }
    __syncthreads();
    if (column < dim) {
#pragma unroll
      for (int32 h = 0; h < sumHeads; h++) sums[h] *= shrinks[head + h];
      sumPart(&s, part, head, column, sums);
    }
  }
  __syncthreads();
  if (column >= dim) return;
#pragma unroll
  for (int32 h = 0; h < sumHeads; h++) {
    if (head + h >= t.heads) continue;
    // There are keys, but no score above −∞: the softmax is NaN.
    const float total = tops[head + h] == -infinity() && totals[head + h] != 0 ? notANumber() : totals[head + h];
    a.Out[((int64)t.row * a.Heads + t.head + head + h) * dim + column] = total == 0 ? 0 : sums[h] / total * a.ValueScale;
  }
}
