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

// The same for a row of several parts, over all blocks of a GPU. Twins: filterBinsTwin and
// filterNarrowTwin.

struct filterState {
  uint32 Low, High;
  uint64 Need;
};

struct sampleFilterSplitArgs {
  const float *Weights;         // [Rows, Vocab]
  const samplingParams *Params; // [Rows]
  filterState *State;           // [Rows]
  uint64 *Bins;                 // [Rows, Parts, filterBins]
  float *Least;                 // [Rows]
  int32 Rows, Vocab, Parts, Most, Stage, Round;
};

// fewOf returns how many weights the stage keeps, 0 for no bound.
DEVICE int32 fewOf(const sampleFilterSplitArgs &a, const samplingParams &q) {
  const int32 few = a.Stage == 2 ? a.Most : a.Stage == 0 && !(q.Flags & flagProbabilities) ? q.TopK : 0;
  return few < a.Vocab ? few : 0;
}

DEVICE bool keepsPart(const sampleFilterSplitArgs &a, const samplingParams &q) {
  return a.Stage == 1 && !(q.Flags & flagProbabilities) && q.TopP > 0 && q.TopP < 1;
}

// searched returns the bits between which the row's search goes on.
DEVICE filterState searched(const sampleFilterSplitArgs &a, const samplingParams &q, int32 row) {
  if (a.Round > 0) return a.State[row];
  filterState s = {0x2a000000u, 0x3f800001u, 0}; // 2^−43 to above 1
  if (a.Stage > 0) {
    s.Low = a.State[row].Low;
  } else if (!(q.Flags & flagProbabilities) && q.MinP > 0) {
    uint32 least = bitsOfFloat((float)q.MinP);
    if ((double)floatOfBits(least) < q.MinP) least++;
    if (least > s.Low) s.Low = least;
  }
  if (fewOf(a, q) <= 0 && !keepsPart(a, q)) s.High = s.Low + 1;
  return s;
}

DEVICE uint32 binStep(const filterState &s) { return (s.High - s.Low + filterBins - 1) / filterBins; }

KERNEL(threads) void sample_filter_bins(sampleFilterSplitArgs a) {
  __shared__ uint32 limbs[3][filterBins]; // 16 bits of a sum each, with what they carry
  const int32 row = (int32)blockIdx.x / a.Parts, first = (int32)blockIdx.x % a.Parts * part;
  const samplingParams q = a.Params[row];
  if (q.Flags & flagGreedy) return;
  const filterState s = searched(a, q, row);
  if (s.High - s.Low <= 1) return;
  for (int32 i = (int32)threadIdx.x; i < 3 * filterBins; i += threads) limbs[i / filterBins][i % filterBins] = 0;
  __syncthreads();
  const int32 n = minimum(part, a.Vocab - first);
  const float *weights = a.Weights + (int64)row * a.Vocab + first;
  const uint32 step = binStep(s);
  const bool count = !keepsPart(a, q);
  for (int32 i = (int32)threadIdx.x; i < n; i += threads) {
    const uint32 bits = bitsOfFloat(weights[i]);
    if (bits < s.Low) continue;
    const uint32 of = (bits - s.Low) / step, bin = of < filterBins ? of : filterBins - 1;
    const uint64 whole = count ? 1 : wholeOf(weights[i]);
    addShared(&limbs[0][bin], (uint32)whole & 0xffff);
    if (count) continue;
    addShared(&limbs[1][bin], (uint32)(whole >> 16) & 0xffff);
    addShared(&limbs[2][bin], (uint32)(whole >> 32));
  }
  __syncthreads();
  for (int32 i = (int32)threadIdx.x; i < filterBins; i += threads) {
    a.Bins[(int64)blockIdx.x * filterBins + i] = limbs[0][i] + ((uint64)limbs[1][i] << 16) + ((uint64)limbs[2][i] << 32);
  }
}

KERNEL(filterBins) void sample_filter_narrow(sampleFilterSplitArgs a) {
  __shared__ uint64 from[filterBins + 1]; // from a bin on
  const int32 row = (int32)blockIdx.x, bin = (int32)threadIdx.x;
  const samplingParams q = a.Params[row];
  if (q.Flags & flagGreedy) return;
  filterState s = searched(a, q, row);
  const bool over = s.High - s.Low <= 1;
  uint64 own = 0;
  for (int32 p = 0; p < a.Parts && !over; p++) own += a.Bins[((int64)row * a.Parts + p) * filterBins + bin];
  from[bin] = own;
  if (bin == 0) from[filterBins] = 0;
  __syncthreads();
  for (int32 d = 1; d < filterBins; d *= 2) {
    const uint64 more = bin + d < filterBins ? from[bin + d] : 0;
    __syncthreads();
    from[bin] += more;
    __syncthreads();
  }
  bool ends = over;
  if (a.Round == 0 && !over) {
    if (keepsPart(a, q)) {
      s.Need = (uint64)((double)from[0] * q.TopP);
      if (s.Need == 0) s.Need = 1;
      ends = from[0] == 0;
    } else {
      s.Need = (uint64)fewOf(a, q);
      ends = from[0] <= s.Need;
    }
  }
  if (ends ? bin > 0 : from[bin] < s.Need || from[bin + 1] >= s.Need) return;
  const uint32 step = ends ? 0 : binStep(s);
  s.Low += (uint32)bin * step;
  const uint32 end = s.Low + (ends ? 1 : step);
  if (end < s.High) s.High = end;
  a.State[row] = s;
  a.Least[row] = floatOfBits(s.Low);
}
