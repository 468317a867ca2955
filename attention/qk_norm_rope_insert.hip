// q, k, index_q, index_k = rope(rms(x; norm), position), in place; k, v and index_k go
// to the cache: one block per vector of a row. Without IndexDim there are no index_q and
// index_k. The twin is insertTwin.

struct insertArgs {
  float *QKV;
  const float *QNorm, *KNorm, *IndexQNorm, *IndexKNorm;
  const double *InverseFrequencies;
  void *Keys, *Values, *IndexKeys;
  const int32 *Batch;
  double Eps, AttentionFactor;
  int64 Stride;
  int32 Rows, Sequences, TableEntries, PresenceWords;
  int32 Heads, KVHeads, HeadDim, IndexDim;
  int32 RotaryDim, BlockSize, Format, IndexFormat;
  float KeyScale, ValueScale;
};

// rowVector is one vector of a row of the fused projection.
struct rowVector {
  int32 column, dim;
  const float *norm; // null: neither norm nor rotation
  void *cache;       // null: not stored
  int32 head, heads; // in the cache
  int32 format;
  float scale;
};

DEVICE rowVector vectorOf(const insertArgs &a, int32 i) {
  rowVector v = {i * a.HeadDim, a.HeadDim, nullptr, nullptr, 0, a.KVHeads, a.Format, 1};
  if (i < a.Heads) {
    v.norm = a.QNorm;
    return v;
  }
  if ((i -= a.Heads) < a.KVHeads) {
    v.norm = a.KNorm, v.cache = a.Keys, v.head = i, v.scale = a.KeyScale;
    return v;
  }
  if ((i -= a.KVHeads) < a.KVHeads) {
    v.cache = a.Values, v.head = i, v.scale = a.ValueScale;
    return v;
  }
  i -= a.KVHeads;
  v.column = (a.Heads + 2 * a.KVHeads) * a.HeadDim + i * a.IndexDim;
  v.dim = a.IndexDim, v.heads = 1, v.norm = a.IndexQNorm;
  if (i == a.KVHeads) v.norm = a.IndexKNorm, v.cache = a.IndexKeys, v.format = a.IndexFormat;
  return v;
}

// rotate turns the pairs (j, j + half) of x: cosines and sines are rounded to float32,
// products and sums are float64, rounded once.
DEVICE void rotate(float *x, int32 half, int32 position, const double *frequencies, double factor) {
  for (int32 j = (int32)threadIdx.x; j < half; j += (int32)blockDim.x) {
    double sine, cosine;
    sinCos64((double)position * frequencies[j], &sine, &cosine);
    const double c = (float)(factor * cosine), s = (float)(factor * sine), low = x[j], high = x[j + half];
    x[j] = (float)(low * c - high * s);
    x[j + half] = (float)(high * c + low * s);
  }
}

KERNEL(insertThreads) void qk_norm_rope_insert(insertArgs a) {
  __shared__ double waves[insertThreads / waveSize];
  const int32 vectors = a.Heads + 2 * a.KVHeads + (a.IndexDim > 0 ? a.KVHeads + 1 : 0);
  const int32 row = (int32)blockIdx.x / vectors;
  const batchView batch = viewBatch(a.Batch, a.Rows, a.Sequences, a.TableEntries);
  const rowVector v = vectorOf(a, (int32)blockIdx.x % vectors);
  float *x = a.QKV + row * a.Stride + v.column;
  if (v.norm) {
    rms64(x, x, v.norm, v.dim, a.Eps, waves);
    __syncthreads();
    rotate(x, a.RotaryDim / 2, batch.positions[row], a.InverseFrequencies, a.AttentionFactor);
    __syncthreads();
  }
  if (!v.cache) return;
  const int64 slot = batch.slots[row], page = slot / a.BlockSize, within = slot % a.BlockSize;
  const int64 first = ((page * v.heads + v.head) * a.BlockSize + within) * v.dim;
  for (int32 i = (int32)threadIdx.x; i < v.dim; i += (int32)blockDim.x) store(v.cache, v.format, first + i, x[i], v.scale);
}
