// The K largest of rows of logits that lie on several ranks: a record of each rank's own,
// and the merge of all records, with what topk.hip has. Twins: topkRecordTwin and
// topkMergeRanksTwin. Go gives mergeThreads.

struct topkRecordArgs {
  const float *Largest; // [Rows, Parts, K]
  const int32 *Index;
  const double *Sums; // [Rows, Parts]
  const int32 *Tokens;
  const uint64 *Check;
  uint64 *Record;
  int32 Rows, Vocab, Parts, K;
};

struct topkMergeRanksArgs {
  const uint64 *Records;
  int32 *IDs;
  float *Probabilities;
  int32 *Differs;
  int64 Rows;
  int32 Ranks, K;
};

KERNEL(mergeThreads) void topk_ranks_record(topkRecordArgs a) {
  __shared__ candidate best[mergeThreads / waveSize];
  __shared__ double partial[mergeThreads / waveSize];
  const int64 row = blockIdx.x;
  const int32 candidates = a.Parts * a.K;
  const float *from = a.Largest + row * candidates;
  const int32 *index = a.Index + row * candidates;
  double *sums = (double *)(a.Record + 1);
  float *largest = (float *)(sums + a.Rows);
  int32 *ids = (int32 *)(largest + (int64)a.Rows * a.K);
  if (row == 0 && threadIdx.x == 0) a.Record[0] = a.Check[0];
  candidate last = none();
  for (int32 k = 0; k < a.K; k++) {
    candidate c = none();
    for (int32 i = (int32)threadIdx.x; i < candidates; i += mergeThreads) {
      const candidate own = {from[i], index[i]};
      if (own.index >= 0 && (k == 0 || above(last, own)) && above(own, c)) c = own;
    }
    last = blockBest(c, best);
    if (k == 0) {
      double sum = 0;
      for (int32 p = (int32)threadIdx.x; p < a.Parts; p += mergeThreads) sum += a.Sums[row * a.Parts + p] * weightOf(from[(int64)p * a.K], last.value);
      sum = blockSum(sum, partial);
      if (threadIdx.x == 0) sums[row] = sum;
    }
    if (threadIdx.x == 0) {
      largest[row * a.K + k] = last.value;
      ids[row * a.K + k] = last.index < a.Vocab ? a.Tokens[last.index] : -1;
    }
  }
}

KERNEL(mergeThreads) void topk_ranks_merge(topkMergeRanksArgs a) {
  __shared__ candidate best[mergeThreads / waveSize];
  __shared__ double partial[mergeThreads / waveSize];
  const int64 row = blockIdx.x, n = a.Rows * a.K, words = 1 + a.Rows + n; // of a record
  if (row == 0 && threadIdx.x == 0) {
    int32 differs = 0;
    for (int32 r = a.Ranks - 1; r > 0; r--) {
      if (a.Records[r * words] != a.Records[0]) differs = 1 + r;
    }
    a.Differs[0] = differs;
  }
  candidate last = none();
  float top = 0;
  double sum = 0;
  for (int32 k = 0; k < a.K; k++) {
    candidate c = none();
    for (int32 i = (int32)threadIdx.x; i < a.Ranks * a.K; i += mergeThreads) {
      const float *largest = (const float *)(a.Records + i / a.K * words + 1 + a.Rows);
      const int64 at = row * a.K + i % a.K;
      const candidate own = {largest[at], ((const int32 *)(largest + n))[at]};
      if (own.index >= 0 && (k == 0 || above(last, own)) && above(own, c)) c = own;
    }
    last = blockBest(c, best);
    if (k == 0) {
      top = last.value;
      for (int32 r = (int32)threadIdx.x; r < a.Ranks; r += mergeThreads) {
        const double *sums = (const double *)(a.Records + r * words + 1);
        const float *largest = (const float *)(sums + a.Rows);
        if (((const int32 *)(largest + n))[row * a.K] >= 0) sum += sums[row] * weightOf(largest[row * a.K], top);
      }
      sum = blockSum(sum, partial);
    }
    if (threadIdx.x == 0) {
      a.IDs[row * a.K + k] = last.index;
      a.Probabilities[row * a.K + k] = (float)(weightOf(last.value, top) / sum);
    }
  }
}
