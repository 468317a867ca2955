// id = the lowest index of the largest logit, NaN below every number; probability =
// 1 / Σ exp(logit − largest). Twins: argmaxPartsTwin and argmaxMergeTwin.

struct argmaxArgs {
  const float *Logits; // [Rows, Vocab]
  float *Largest;      // [Rows, Parts]
  double *Sums;        // [Rows, Parts]
  int32 *Index;        // [Rows, Parts]
  const int32 *Tokens; // [Vocab], or none
  int32 *IDs;
  float *Probabilities;
  int32 Rows, Vocab;
  int64 Parts;
};

constexpr int32 argmaxPart = 4096;

// candidate is a value and where it stands. above tells whether a comes before b:
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

KERNEL(256) void argmax_parts(argmaxArgs a) {
  __shared__ candidate best[256 / waveSize];
  __shared__ double sums[256 / waveSize];
  const int32 row = (int32)(blockIdx.x / a.Parts), first = (int32)(blockIdx.x % a.Parts) * argmaxPart;
  const int32 n = minimum(argmaxPart, a.Vocab - first);
  const float *logits = a.Logits + (int64)row * a.Vocab + first;
  candidate top = {notANumber(), 0x7fffffff}; // below all
  for (int32 i = (int32)threadIdx.x; i < n; i += (int32)blockDim.x) {
    const candidate c = {logits[i], i};
    if (above(c, top)) top = c;
  }
  top = blockBest(top, best);
  const bool infinite = top.value == infinity() || top.value == -infinity();
  double sum = 0;
  for (int32 i = (int32)threadIdx.x; i < n; i += (int32)blockDim.x) {
    const float v = logits[i];
    // exp(∞ − ∞) is no number, but a limit is: those that are equal count as 1.
    if (!infinite || v != v) {
      sum += expFast(v - top.value);
    } else if (v == top.value) {
      sum += 1;
    }
  }
  sum = blockSum(sum, sums);
  if (threadIdx.x == 0) {
    a.Largest[blockIdx.x] = top.value;
    a.Sums[blockIdx.x] = sum;
    a.Index[blockIdx.x] = first + top.index;
  }
}

KERNEL(64) void argmax_merge(argmaxArgs a) {
  __shared__ candidate best[64 / waveSize];
  __shared__ double sums[64 / waveSize];
  const int64 row = blockIdx.x;
  const float *largest = a.Largest + row * a.Parts;
  candidate top = {notANumber(), 0x7fffffff};
  for (int32 p = (int32)threadIdx.x; p < a.Parts; p += (int32)blockDim.x) {
    const candidate c = {largest[p], p};
    if (above(c, top)) top = c;
  }
  top = blockBest(top, best);
  double sum = 0;
  for (int32 p = (int32)threadIdx.x; p < a.Parts; p += (int32)blockDim.x) {
    const double part = a.Sums[row * a.Parts + p];
    // Equal also where both are infinite.
    sum += largest[p] != top.value ? part * exp64((double)largest[p] - (double)top.value) : part;
  }
  sum = blockSum(sum, sums);
  if (threadIdx.x == 0) {
    const int32 index = top.value != top.value ? 0 : a.Index[row * a.Parts + top.index];
    a.IDs[row] = a.Tokens ? a.Tokens[index] : index;
    a.Probabilities[row] = (float)(1 / sum);
  }
}
