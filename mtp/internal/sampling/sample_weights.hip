// The largest logit of every part of a row, and the weights of rows. Twins:
// weightsMaxTwin and weightsTwin.

struct sampleWeightsArgs {
  const float *Logits;          // [Rows, Vocab]
  float *Weights;               // [Rows, Vocab]; may be Logits
  float *Largest;               // [Rows, Parts]
  const samplingParams *Params; // [Rows]
  int32 Rows, Vocab, Parts, Pad;
};

KERNEL(threads) void sample_weights_max(sampleWeightsArgs a) {
  __shared__ float waves[threads / waveSize];
  const int32 row = (int32)blockIdx.x / a.Parts, first = (int32)blockIdx.x % a.Parts * part;
  const int32 n = minimum(part, a.Vocab - first);
  const float *logits = a.Logits + (int64)row * a.Vocab + first;
  const bool probabilities = a.Params[row].Flags & flagProbabilities;
  float top = -infinity();
  for (int32 i = (int32)threadIdx.x; i < n; i += threads) {
    float v = logits[i];
    if (probabilities && !(v >= 0 && v < infinity())) v = notANumber();
    top = largestOf::of(top, v);
  }
  top = blockFold<largestOf>(top, waves);
  if (threadIdx.x == 0) a.Largest[blockIdx.x] = top;
}

KERNEL(threads) void sample_weights(sampleWeightsArgs a) {
  __shared__ float waves[threads / waveSize];
  const int32 row = (int32)blockIdx.x / a.Parts, p = (int32)blockIdx.x % a.Parts, first = p * part;
  const int32 n = minimum(part, a.Vocab - first);
  const int64 at = (int64)row * a.Vocab + first;
  const samplingParams q = a.Params[row];
  const float *largest = a.Largest + (int64)row * a.Parts;
  const float top = topOf(largest, a.Parts);
  if (q.Flags & flagGreedy) return;
  if (!(q.Flags & flagProbabilities) && q.Temperature == 0) { // the first of the largest
    bool before = !(top > -infinity());
    for (int32 other = 0; other < p; other++) before = before || largest[other] == top;
    float least = part;
    if (!before) {
      for (int32 i = (int32)threadIdx.x; i < n; i += threads) {
        if (a.Logits[at + i] == top) least = leastOf::of(least, (float)i);
      }
    }
    least = blockFold<leastOf>(least, waves);
    for (int32 i = (int32)threadIdx.x; i < n; i += threads) a.Weights[at + i] = (float)i == least ? 1 : 0;
    return;
  }
  for (int32 i = (int32)threadIdx.x; i < n; i += threads) {
    const float v = a.Logits[at + i];
    double weight = 0;
    if (q.Flags & flagProbabilities) {
      weight = (double)v / (double)top;
    } else if (v == top && v > -infinity()) { // also where both are infinite
      weight = 1;
    } else {
      weight = expOf(((double)v - (double)top) / q.Temperature);
    }
    a.Weights[at + i] = weight >= 1.1368683772161603e-13 ? (float)weight : 0; // 2^−43; NaN becomes 0
  }
}
