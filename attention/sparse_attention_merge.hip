// out = Σ exp(topₚ − top)·valuesₚ / Σ exp(topₚ − top)·totalₚ over the parts of a row and
// head, a block each; see sparseMerge. The twin is sparseMergeTwin; Go gives mergeThreads.
// Threads share the parts' weights, and fetch several parts' values at a time.

KERNEL(mergeThreads) void sparse_attention_merge(sparseArgs a) {
  startNext();
  __shared__ float scales[mergeThreads], totals[mergeThreads], tops[mergeThreads / waveSize];
  __shared__ uint32 there[mergeThreads / waveSize];
  const int32 dim = a.HeadDim, parts = a.TopkBlocks * ceilDiv(a.BlockSize, partKeys), thread = (int32)threadIdx.x;
  const int64 i = blockIdx.x;
  const float *w = a.Parts + (int64)a.Rows * a.Heads * parts * dim + 2 * i * parts;
  float top = -infinity();
  uint32 some = 0;
  for (int32 p = thread; p < parts; p += mergeThreads) top = larger(top, w[2 * p]), some += w[2 * p + 1] != 0;
  top = waveFold<keepingLarger>(top), some = waveFold<adding>(some);
  if (laneIndex() == 0) tops[waveIndex()] = top, there[waveIndex()] = some;
  __syncthreads();
  bool any = false;
  for (int32 k = 0; k < mergeThreads / (int32)waveSize; k++) top = larger(top, tops[k]), any = any || there[k] != 0;

  for (int32 first = 0; first < dim; first += mergeThreads) {
    const int32 d = first + thread;
    float sum = 0, total = 0;
    for (int32 from = 0; any && from < parts; from += mergeThreads) {
      const int32 n = minimum(mergeThreads, parts - from);
      __syncthreads(); // before, others read these
      if (thread < n) scales[thread] = expFast(w[2 * (from + thread)] - top), totals[thread] = w[2 * (from + thread) + 1]; // NaN if both are −∞
      __syncthreads();
      const float *values = a.Parts + (i * parts + from) * dim + minimum(d, dim - 1);
#pragma unroll 8
      for (int32 p = 0; p < n; p++) {
        total = fusedMultiplyAdd(scales[p], totals[p], total);
        sum = fusedMultiplyAdd(scales[p], values[(int64)p * dim], sum);
      }
    }
    if (d < dim) a.Out[i * dim + d] = any ? sum / total : 0;
  }
}
