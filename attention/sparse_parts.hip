// Attention with the keys of a row split over blocks, and the merge of the parts. The
// twins, with what a part is, are sparsePartsTwin and sparseMergeTwin. All in float32.

struct sparseArgs {
  const float *Q;
  const void *Keys, *Values;
  const int32 *Selected, *Batch;
  float *Out, *Parts;
  int64 Stride;
  int32 Rows, Sequences, TableEntries, PresenceWords;
  int32 Heads, KVHeads, HeadDim, BlockSize;
  int32 TopkBlocks, HeadTile, Tiles, Format;
};

constexpr int32 partThreads = 512, partKeys = 64, partHeads = 16, partDim = 128, mergeThreads = 128;
// Four floats more than a key: 16-byte reads of neighbouring keys meet in no bank.
constexpr int32 partStride = partDim + 4;
constexpr int32 headsOfThread = partHeads * partKeys / partThreads, headsOfColumn = partHeads * (partDim / 4) / partThreads;

struct partState {
  Float32x4 stored[partKeys][partStride / 4]; // keys, then values; zero where there is none
  Float32x4 q[partHeads][partDim / 4];
  float weights[partHeads][partKeys]; // scores, then weights
};

DEVICE float larger(float a, float b) { return a != a || a > b ? a : b; }

// loadPart brings the vectors from index first on into shared memory, 16 bytes a thread.
DEVICE void loadPart(partState *s, const sparseArgs &a, const rowContext &c, const void *cache, int64 first, int64 position, int32 n) {
  const int32 each = a.Format == cacheBF16 ? 8 : 4, pieces = a.HeadDim / each;
#pragma unroll 4
  for (int32 i = (int32)threadIdx.x; i < partKeys * pieces; i += partThreads) {
    const int32 slot = i / pieces, piece = i % pieces;
    Uint32x4 raw = {};
    if (slot < n && c.present(position + slot)) raw = ((const Uint32x4 *)cache)[(first + slot) * pieces + piece];
    if (a.Format == cacheBF16) {
      s->stored[slot][2 * piece] = {{floatOfBF16(raw.at[0] & 0xffffu), floatOfBits(raw.at[0] & 0xffff0000u), floatOfBF16(raw.at[1] & 0xffffu), floatOfBits(raw.at[1] & 0xffff0000u)}};
      s->stored[slot][2 * piece + 1] = {{floatOfBF16(raw.at[2] & 0xffffu), floatOfBits(raw.at[2] & 0xffff0000u), floatOfBF16(raw.at[3] & 0xffffu), floatOfBits(raw.at[3] & 0xffff0000u)}};
    } else {
      s->stored[slot][piece] = {{floatOfBits(raw.at[0]), floatOfBits(raw.at[1]), floatOfBits(raw.at[2]), floatOfBits(raw.at[3])}};
    }
  }
}

KERNEL(partThreads) void sparse_attention_parts(sparseArgs a) {
  __shared__ partState s;
  const int32 dim = a.HeadDim, group = a.Heads / a.KVHeads, blockParts = ceilDiv(a.BlockSize, partKeys), parts = a.TopkBlocks * blockParts;
  const int32 part = (int32)blockIdx.x % parts, tile = (int32)blockIdx.x / parts % a.Tiles * a.HeadTile;
  const int32 g = (int32)blockIdx.x / parts / a.Tiles % a.KVHeads, row = (int32)blockIdx.x / parts / a.Tiles / a.KVHeads;
  const int32 heads = minimum(a.HeadTile, group - tile), head = g * group + tile;
  const int64 at = ((int64)row * a.Heads + head) * parts + part; // of the first head, parts from the next
  const int64 weightsAt = (int64)a.Rows * a.Heads * parts * dim;
  const int32 block = a.Selected[((int64)row * a.KVHeads + g) * a.TopkBlocks + part / blockParts], from = part % blockParts * partKeys;
  const rowContext c = contextOf(viewBatch(a.Batch, a.Rows, a.Sequences, a.TableEntries), row);
  const int32 n = block < 0 ? 0 : maximum(0, minimum(partKeys, c.keys(block, a.BlockSize) - from));
  if (n == 0) { // for the whole block of threads
    for (int32 i = (int32)threadIdx.x; i < heads * dim; i += partThreads) a.Parts[(at + (int64)(i / dim) * parts) * dim + i % dim] = 0;
    if ((int32)threadIdx.x < heads) {
      float *w = a.Parts + weightsAt + 2 * (at + (int64)threadIdx.x * parts);
      w[0] = -infinity(), w[1] = 0;
    }
    return;
  }
  const int64 first = ((int64)c.table[block] * a.KVHeads + g) * a.BlockSize + from, position = (int64)block * a.BlockSize + from;
  const float *q = a.Q + row * a.Stride + (int64)head * dim;
  for (int32 i = (int32)threadIdx.x; i < partHeads * dim; i += partThreads) {
    const int32 d = i % dim;
    s.q[i / dim][d / 4].at[d % 4] = i / dim < heads ? q[i] : 0;
  }
  loadPart(&s, a, c, a.Keys, first, position, n);
  __syncthreads();

  // A thread scores one key for headsOfThread heads.
  const int32 key = (int32)threadIdx.x % partKeys, firstHead = (int32)threadIdx.x / partKeys * headsOfThread;
  const float scale = (float)(1 / squareRoot((double)dim));
  float scores[headsOfThread] = {};
  for (int32 i = 0; i < dim / 4; i++) {
    const Float32x4 k = s.stored[key][i];
#pragma unroll
    for (int32 h = 0; h < headsOfThread; h++) {
      const Float32x4 x = s.q[firstHead + h][i];
#pragma unroll
      for (int32 j = 0; j < 4; j++) scores[h] = fusedMultiplyAdd(x.at[j], k.at[j], scores[h]);
    }
  }
  const bool present = key < n && c.present(position + key);
#pragma unroll
  for (int32 h = 0; h < headsOfThread; h++) s.weights[firstHead + h][key] = present ? scores[h] * scale : -infinity();
  __syncthreads();

  loadPart(&s, a, c, a.Values, first, position, n);
  for (int32 h = (int32)waveIndex(); h < partHeads; h += partThreads / (int32)waveSize) {
    float top = -infinity(), total = 0;
    for (int32 k = (int32)laneIndex(); k < partKeys; k += (int32)waveSize) top = larger(top, s.weights[h][k]);
#pragma unroll
    for (uint32 mask = waveSize / 2; mask > 0; mask /= 2) top = larger(top, swapLanes(top, mask));
    for (int32 k = (int32)laneIndex(); k < partKeys; k += (int32)waveSize) {
      const bool there = k < n && c.present(position + k);
      const float w = !there ? 0.0f : top == -infinity() ? 1.0f : expFast(s.weights[h][k] - top);
      s.weights[h][k] = w;
      total += w;
    }
    total = waveSum(total);
    if (laneIndex() == 0 && h < heads) {
      float *w = a.Parts + weightsAt + 2 * (at + (int64)h * parts);
      w[0] = top, w[1] = total;
    }
  }
  __syncthreads();

  // A thread sums four columns of headsOfColumn heads.
  const int32 column = (int32)threadIdx.x % (partDim / 4), ofHead = (int32)threadIdx.x / (partDim / 4) * headsOfColumn;
  if (column >= dim / 4) return;
  float sums[headsOfColumn][4] = {};
  for (int32 k = 0; k < n; k++) {
    if (!c.present(position + k)) continue;
    const Float32x4 v = s.stored[k][column];
#pragma unroll
    for (int32 h = 0; h < headsOfColumn; h++) {
      const float w = s.weights[ofHead + h][k];
#pragma unroll
      for (int32 j = 0; j < 4; j++) sums[h][j] = fusedMultiplyAdd(w, v.at[j], sums[h][j]);
    }
  }
#pragma unroll
  for (int32 h = 0; h < headsOfColumn; h++) {
    if (ofHead + h < heads) ((Float32x4 *)(a.Parts + (at + (int64)(ofHead + h) * parts) * dim))[column] = {{sums[h][0], sums[h][1], sums[h][2], sums[h][3]}};
  }
}

KERNEL(mergeThreads) void sparse_attention_merge(sparseArgs a) {
  const int32 dim = a.HeadDim, parts = a.TopkBlocks * ceilDiv(a.BlockSize, partKeys);
  const int64 i = blockIdx.x;
  const float *w = a.Parts + (int64)a.Rows * a.Heads * parts * dim + 2 * i * parts;
  float top = -infinity();
  bool any = false;
  for (int32 p = 0; p < parts; p++) {
    top = larger(top, w[2 * p]);
    any = any || w[2 * p + 1] != 0;
  }
  for (int32 d = (int32)threadIdx.x; d < dim; d += mergeThreads) {
    float sum = 0, total = 0;
    for (int32 p = 0; any && p < parts; p++) {
      const float scale = expFast(w[2 * p] - top); // NaN if both are −∞
      total = fusedMultiplyAdd(scale, w[2 * p + 1], total);
      sum = fusedMultiplyAdd(scale, a.Parts[(i * parts + p) * dim + d], sum);
    }
    a.Out[i * dim + d] = any ? sum / total : 0;
  }
}
