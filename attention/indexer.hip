// score[row][g][block] = max over the visible keys j of the block of index_q[g] ·
// index_k[j], −Inf without one, NaN where a product is: one block per row and chunk of
// blocks of keys. The twin is scoresTwin.

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

// scoreThreads threads share a block of keys; laneKeys of them, side by side, a key.
constexpr int32 scoreThreads = 256, laneKeys = 8;

KERNEL(scoreThreads) void index_scores(scoresArgs a) {
  __shared__ float waves[scoreThreads / waveSize];
  const int32 chunks = ceilDiv(a.ScoreBlocks, a.ChunkBlocks);
  const int32 row = (int32)blockIdx.x / chunks, first = (int32)blockIdx.x % chunks * a.ChunkBlocks;
  const int32 end = minimum(first + a.ChunkBlocks, a.ScoreBlocks), dim = a.IndexDim;
  const rowContext c = contextOf(viewBatch(a.Batch, a.Rows, a.Sequences, a.TableEntries), row);
  const int32 part = (int32)threadIdx.x % laneKeys;
  for (int32 block = first; block < end; block++) {
    const int32 visible = c.keys(block, a.BlockSize);
    const int64 page = visible > 0 ? c.table[block] : 0;
    for (int32 g = 0; g < a.IndexHeads; g++) {
      const float *q = a.IndexQ + row * a.Stride + (int64)g * dim;
      float best = -infinity();
      // All threads make as many turns: lanes of a key add up their parts together.
      for (int32 from = 0; from < visible; from += scoreThreads / laneKeys) {
        const int32 slot = from + (int32)threadIdx.x / laneKeys;
        float sum = 0;
        if (slot < visible) {
          const int64 key = (page * a.BlockSize + slot) * dim;
          for (int32 i = part; i < dim; i += laneKeys) sum = fusedMultiplyAdd(q[i], cached(a.IndexKeys, a.Format, key + i), sum);
        }
#pragma unroll
        for (uint32 mask = laneKeys / 2; mask > 0; mask /= 2) sum += swapLanes(sum, mask);
        if (slot < visible && c.present((int64)block * a.BlockSize + slot)) best = larger(best, sum);
      }
#pragma unroll
      for (uint32 mask = waveSize / 2; mask > 0; mask /= 2) best = larger(best, swapLanes(best, mask));
      if (laneIndex() == 0) waves[waveIndex()] = best;
      __syncthreads();
      if (threadIdx.x == 0) {
        for (int32 w = 1; w < scoreThreads / waveSize; w++) best = larger(best, waves[w]);
        a.Scores[((int64)row * a.IndexHeads + g) * a.ScoreBlocks + block] = best;
      }
      __syncthreads();
    }
  }
}
