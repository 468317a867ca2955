// s = sigmoid(logits); ids = the TopK largest s + bias, w = s[ids] / Σ s[ids] · scale: one
// block per row. s + bias and w are float64. The twin is routeTwin; Go
// gives routeThreads.

struct routeArgs {
  const float *Logits, *Bias;
  float *Scores;
  int32 *IDs;
  float *Weights;
  double Scale;
  int32 Experts, TopK;
};

// pick is an expert and its s + bias. above reports whether a comes before b: the larger
// key, NaN below every number, the lower expert of equal ones.
struct pick {
  double key;
  int32 expert;
};

DEVICE bool above(pick a, pick b) {
  if (a.key > b.key || (a.key == a.key && b.key != b.key)) return true;
  if (a.key < b.key || (b.key == b.key && a.key != a.key)) return false;
  return a.expert < b.expert;
}

KERNEL(routeThreads) void route(routeArgs a) {
  __shared__ pick waves[routeThreads / waveSize];
  const int64 row = blockIdx.x;
  const float *logits = a.Logits + row * a.Experts;
  float *scores = a.Scores + row * a.Experts;
  for (int32 e = (int32)threadIdx.x; e < a.Experts; e += routeThreads) scores[e] = (float)(1 / (1 + exp64(-(double)logits[e])));
  // From here on each thread reads the scores that it wrote itself.
  const pick none = {(double)notANumber(), 0x7fffffff}; // below all experts
  pick last = {0, -1};                                  // the pick of the round before
  double sum = 0;
  for (int32 k = 0; k < a.TopK; k++) {
    pick best = none;
    for (int32 e = (int32)threadIdx.x; e < a.Experts; e += routeThreads) {
      const pick p = {(double)scores[e] + (double)a.Bias[e], e};
      if ((k == 0 || above(last, p)) && above(p, best)) best = p;
    }
#pragma unroll
    for (uint32 mask = waveSize / 2; mask > 0; mask /= 2) {
      const pick other = {swapLanes(best.key, mask), (int32)shuffleXor((uint32)best.expert, mask)};
      if (above(other, best)) best = other;
    }
    if (laneIndex() == 0) waves[waveIndex()] = best;
    __syncthreads();
    best = waves[0];
    for (int32 w = 1; w < routeThreads / waveSize; w++) {
      if (above(waves[w], best)) best = waves[w];
    }
    __syncthreads(); // scores, too, may be read by others from here on
    if (threadIdx.x == 0) a.IDs[row * a.TopK + k] = best.expert;
    sum += scores[best.expert];
    last = best;
  }
  __syncthreads();
  for (int32 k = (int32)threadIdx.x; k < a.TopK; k += routeThreads) {
    a.Weights[row * a.TopK + k] = (float)((double)scores[a.IDs[row * a.TopK + k]] / sum * a.Scale);
  }
}
