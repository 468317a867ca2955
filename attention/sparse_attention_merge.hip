// out = Σ exp(topₚ − top)·valuesₚ / Σ exp(topₚ − top)·totalₚ over the parts of a row and
// head, a block each; see sparseMerge. The twin is sparseMergeTwin; Go gives mergeThreads.

KERNEL(mergeThreads) void sparse_attention_merge(sparseArgs a) {
  startNext();
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
