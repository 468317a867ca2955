// The tokens that the filters of a row leave, with their weights, in the order of their
// ids, and one that is drawn from them. Twin: listTwin.

struct sampleListArgs {
  const float *Logits;          // [Rows, Vocab]
  const float *Weights;         // [Rows, Vocab]
  const float *Largest;         // [Rows, Parts]
  const float *Least;           // [Rows]
  const samplingParams *Params; // [Rows]
  const int32 *Tokens;          // [Vocab], or none
  int32 *IDs;                   // [Rows]
  float *Probabilities;         // [Rows]
  int32 *Counts;                // [Rows]
  int32 *ListIDs;               // [Rows, Most]
  float *ListWeights;           // [Rows, Most]
  int32 Rows, Vocab, Parts, Most;
};

// probabilityOf returns the probability of a token, from that of the most likely one.
DEVICE float probabilityOf(float logit, float top, float ofTop) {
  return logit == top ? ofTop : (float)((double)ofTop * expOf((double)logit - (double)top));
}

KERNEL(threads) void sample_list(sampleListArgs a) {
  __shared__ int32 waves[threads / waveSize];
  __shared__ int32 at[maxList];
  __shared__ float weights[maxList];
  const int32 row = (int32)blockIdx.x;
  const samplingParams q = a.Params[row];
  if (q.Flags & flagGreedy) return;
  const float *logits = a.Logits + (int64)row * a.Vocab, *all = a.Weights + (int64)row * a.Vocab;
  const float top = topOf(a.Largest + (int64)row * a.Parts, a.Parts), least = a.Least[row], ofTop = a.Probabilities[row];
  // Each thread lists consecutive tokens. Those of the least weight fill the list up.
  const int32 each = ceilDiv(a.Vocab, threads);
  const int32 from = minimum(a.Vocab, (int32)threadIdx.x * each), to = minimum(a.Vocab, from + each);
  int32 above = 0, equal = 0;
  for (int32 i = from; i < to; i++) {
    const float v = all[i];
    if (v < least || !((double)probabilityOf(logits[i], top, ofTop) >= q.Least)) continue;
    if (v > least) above++;
    else equal++;
  }
  int32 aboves = 0, equals = 0;
  int32 n = blockScan(above, waves, &aboves);
  int32 same = blockScan(equal, waves, &equals);
  const int32 room = a.Most - aboves;
  n += minimum(same, room);
  for (int32 i = from; i < to && above + equal > 0; i++) {
    const float v = all[i];
    if (v < least || !((double)probabilityOf(logits[i], top, ofTop) >= q.Least)) continue;
    if (v == least && same++ >= room) continue;
    at[n] = i, weights[n] = v, n++;
  }
  const int32 count = aboves + minimum(equals, room);
  __syncthreads();
  for (int32 i = (int32)threadIdx.x; i < a.Most; i += threads) {
    const int64 to = (int64)row * a.Most + i;
    a.ListIDs[to] = i >= count ? -1 : a.Tokens ? a.Tokens[at[i]] : at[i];
    a.ListWeights[to] = i < count ? weights[i] : 0;
  }
  if (threadIdx.x > 0) return;
  a.Counts[row] = count;
  if (count == 0) return;
  uint64 total = 0;
  for (int32 i = 0; i < count; i++) total += wholeOf(weights[i]);
  uint64 left = upperProduct(randomOf(q, purposeDraft), total);
  int32 drawn = 0;
  for (uint64 w; left >= (w = wholeOf(weights[drawn])); drawn++) left -= w;
  a.IDs[row] = a.Tokens ? a.Tokens[at[drawn]] : at[drawn];
  a.Probabilities[row] = probabilityOf(logits[at[drawn]], top, ofTop);
}
