// The lowest weight that the filters of a row leave, and the sums of what is left of each
// part. Twins: filterTwin and filterSumsTwin.

struct sampleFilterArgs {
  const float *Weights;         // [Rows, Vocab]
  const samplingParams *Params; // [Rows]
  float *Least;                 // [Rows]
  uint64 *Sums;                 // [Rows, Parts]
  int32 Rows, Vocab, Parts, Most;
};

// measuresOf sets sums to how much the block's weights from each of three marks on come
// to: their whole numbers, or how many they are.
DEVICE void measuresOf(const float *weights, int32 vocab, bool count, const uint32 *marks, uint64 *sums, uint64 *waves) {
  const float a = floatOfBits(marks[0]), b = floatOfBits(marks[1]), c = floatOfBits(marks[2]);
  uint64 own[3] = {0, 0, 0};
  for (int32 i = (int32)threadIdx.x; i < vocab; i += threads) {
    const float v = weights[i];
    if (v < a) continue;
    const uint64 n = count ? 1 : wholeOf(v);
    own[0] += n;
    if (v >= b) own[1] += n;
    if (v >= c) own[2] += n;
  }
#pragma unroll
  for (int32 j = 0; j < 3; j++) sums[j] = blockSum(own[j], waves);
}

// highest returns the bits of the highest weight from which on a row's weights come to
// need. From low on they do.
DEVICE uint32 highest(const float *weights, int32 vocab, bool count, uint64 need, uint32 low, uint64 *waves) {
  uint32 high = 0x3f800001u; // above 1
  while (high - low > 1) {
    const uint32 step = (high - low + 3) / 4;
    const uint32 marks[3] = {low + step, low + 2 * step, low + 3 * step};
    uint64 sums[3];
    measuresOf(weights, vocab, count, marks, sums, waves);
    uint32 to = high;
#pragma unroll
    for (int32 j = 2; j >= 0; j--) {
      if (marks[j] >= high) continue;
      if (sums[j] >= need) {
        low = marks[j];
        if (count && sums[j] == need) return low;
        break;
      }
      to = marks[j];
    }
    high = to;
  }
  return low;
}

KERNEL(threads) void sample_filter(sampleFilterArgs a) {
  __shared__ uint64 waves[threads / waveSize];
  const int32 row = (int32)blockIdx.x;
  const samplingParams q = a.Params[row];
  if (q.Flags & flagGreedy) return;
  const float *weights = a.Weights + (int64)row * a.Vocab;
  uint32 low = 0x2a000000u; // 2^−43
  const bool filters = !(q.Flags & flagProbabilities);
  if (filters && q.MinP > 0) {
    uint32 least = bitsOfFloat((float)q.MinP);
    if ((double)floatOfBits(least) < q.MinP) least++;
    if (least > low) low = least;
  }
  uint64 sums[3];
  for (int32 round = 0; round < 2; round++) { // top-k, and what the list has room for after top-p
    const int32 most = round == 0 ? (filters ? q.TopK : 0) : a.Most;
    if (most > 0 && most < a.Vocab) {
      const uint32 marks[3] = {low, 0x3f800001u, 0x3f800001u};
      measuresOf(weights, a.Vocab, true, marks, sums, waves);
      if (sums[0] > (uint64)most) low = highest(weights, a.Vocab, true, (uint64)most, low, waves);
    }
    if (round == 0 && filters && q.TopP > 0 && q.TopP < 1) {
      const uint32 marks[3] = {low, 0x3f800001u, 0x3f800001u};
      measuresOf(weights, a.Vocab, false, marks, sums, waves);
      const uint64 need = (uint64)((double)sums[0] * q.TopP);
      if (sums[0] > 0) low = highest(weights, a.Vocab, false, need > 0 ? need : 1, low, waves);
    }
  }
  if (threadIdx.x == 0) a.Least[row] = floatOfBits(low);
}

KERNEL(threads) void sample_filter_sums(sampleFilterArgs a) {
  __shared__ uint64 waves[threads / waveSize];
  const int32 row = (int32)blockIdx.x / a.Parts, first = (int32)blockIdx.x % a.Parts * part;
  const int32 n = minimum(part, a.Vocab - first);
  const float *weights = a.Weights + (int64)row * a.Vocab + first;
  const float least = a.Least[row];
  uint64 sum = 0;
  for (int32 i = (int32)threadIdx.x; i < n; i += threads) sum += keptOf(weights[i], least);
  sum = blockSum(sum, waves);
  if (threadIdx.x == 0) a.Sums[blockIdx.x] = sum;
}
