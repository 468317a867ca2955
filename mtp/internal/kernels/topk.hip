// The K largest of each row of logits, in descending order, the lower index first of
// equal ones, NaN below every number; their probabilities, exp(logit − largest) ÷ the
// sum of that. Twins: topkPartsTwin and topkMergeTwin. Go gives topkPart, partThreads and
// mergeThreads.

struct topkArgs {
  const float *Logits; // [Rows, Vocab]
  float *Largest;      // [Rows, Parts, K]
  int32 *Index;        // [Rows, Parts, K]; −1: none
  double *Sums;        // [Rows, Parts]
  const int32 *Tokens; // [Vocab], or none
  int32 *IDs;
  float *Probabilities;
  int32 Rows, Vocab, Parts, K;
};

// candidate is a value and where it stands. above reports whether a comes before b:
// the larger value, NaN below every number, the lower index of equal ones.
struct candidate {
  float value;
  int32 index;
};

DEVICE bool above(candidate a, candidate b) {
  if (a.value > b.value || (a.value == a.value && b.value != b.value)) return true;
  if (a.value < b.value || (b.value == b.value && a.value != a.value)) return false;
  return a.index < b.index;
}

DEVICE candidate none() { return {notANumber(), 0x7fffffff}; } // below all

// blockBest returns the candidate above all others of the block, in every thread.
DEVICE candidate blockBest(candidate c, candidate *waves) {
#pragma unroll
  for (uint32 mask = waveSize / 2; mask > 0; mask /= 2) {
    const candidate other = {swapLanes(c.value, mask), (int32)shuffleXor((uint32)c.index, mask)};
    if (above(other, c)) c = other;
  }
  if (laneIndex() == 0) waves[waveIndex()] = c;
  __syncthreads();
  c = waves[0];
  for (uint32 w = 1; w < blockDim.x / waveSize; w++) {
    if (above(waves[w], c)) c = waves[w];
  }
  __syncthreads();
  return c;
}

KERNEL(partThreads) void topk_parts(topkArgs a) {
  __shared__ candidate best[partThreads / waveSize];
  __shared__ double sums[partThreads / waveSize];
  const int32 row = (int32)blockIdx.x / a.Parts, first = (int32)blockIdx.x % a.Parts * topkPart;
  const int32 n = minimum(topkPart, a.Vocab - first);
  const float *logits = a.Logits + (int64)row * a.Vocab + first;
  float values[topkPart / partThreads]; // of this thread, partThreads apart
#pragma unroll
  for (int32 j = 0; j < topkPart / partThreads; j++) {
    const int32 i = (int32)threadIdx.x + j * partThreads;
    values[j] = i < n ? logits[i] : 0;
  }
  float top = 0;
  candidate last = none(); // what was taken before
  for (int32 k = 0; k < a.K; k++) {
    candidate c = none();
#pragma unroll
    for (int32 j = 0; j < topkPart / partThreads; j++) {
      const candidate own = {values[j], (int32)threadIdx.x + j * partThreads};
      if (own.index < n && (k == 0 || above(last, own)) && above(own, c)) c = own;
    }
    last = blockBest(c, best);
    if (k == 0) top = last.value;
    if (threadIdx.x == 0) {
      const int64 at = (int64)blockIdx.x * a.K + k;
      a.Largest[at] = last.value;
      a.Index[at] = last.index < n ? first + last.index : -1;
    }
  }
  const bool infinite = top == infinity() || top == -infinity();
  double sum = 0;
#pragma unroll
  for (int32 j = 0; j < topkPart / partThreads; j++) {
    const float v = values[j];
    if ((int32)threadIdx.x + j * partThreads >= n) continue;
    // exp(∞ − ∞) is NaN, so take the limit: values equal to the largest count as 1.
    if (!infinite || v != v) {
      sum += expFast(v - top);
    } else if (v == top) {
      sum += 1;
    }
  }
  sum = blockSum(sum, sums);
  if (threadIdx.x == 0) a.Sums[blockIdx.x] = sum;
}

// weightOf is exp(value − top), 1 also where both are infinite.
DEVICE double weightOf(float value, float top) { return value == top ? 1 : exp64((double)value - (double)top); }

KERNEL(mergeThreads) void topk_merge(topkArgs a) {
  __shared__ candidate best[mergeThreads / waveSize];
  __shared__ double sums[mergeThreads / waveSize];
  const int64 row = blockIdx.x;
  const int32 candidates = a.Parts * a.K;
  const float *largest = a.Largest + row * candidates;
  const int32 *index = a.Index + row * candidates;
  candidate last = none();
  float top = 0;
  double sum = 0;
  for (int32 k = 0; k < a.K; k++) {
    candidate c = none();
    for (int32 i = (int32)threadIdx.x; i < candidates; i += mergeThreads) {
      const candidate own = {largest[i], index[i]};
      if (own.index >= 0 && (k == 0 || above(last, own)) && above(own, c)) c = own;
    }
    last = blockBest(c, best);
    if (k == 0) {
      top = last.value;
      for (int32 p = (int32)threadIdx.x; p < a.Parts; p += mergeThreads) sum += a.Sums[row * a.Parts + p] * weightOf(largest[(int64)p * a.K], top);
      sum = blockSum(sum, sums);
    }
    if (threadIdx.x == 0) {
      a.IDs[row * a.K + k] = a.Tokens ? a.Tokens[last.index] : last.index;
      a.Probabilities[row * a.K + k] = (float)(weightOf(last.value, top) / sum);
    }
  }
}
