// How many drafts of each chain are accepted, and the token after them. Twins: decideTwin
// and drawTwin.

struct sampleVerifyArgs {
  const float *Weights;         // [Rows, Vocab]
  const float *Least;           // [Rows]
  const uint64 *Sums;           // [Rows, Parts]
  const samplingParams *Params; // [Rows]
  const int32 *First;           // [Chains + 1]
  const int32 *Block;           // [Chains]
  const int32 *Tokens;          // [Drafts]
  const int32 *ListAt;          // [Drafts + 1]
  const int32 *ListIDs;
  const float *ListWeights;
  double *Chances; // [Drafts]
  double *Scales;  // [Chains]
  int32 *Accepted; // [Chains]
  int32 *Next;     // [Chains]
  int32 Rows, Vocab, Parts, Chains, Listed, Pad;
};

// rowSum returns the sum of a row, in every thread of the block.
DEVICE uint64 rowSum(const sampleVerifyArgs &a, int32 row, uint64 *waves) {
  uint64 sum = 0;
  for (int32 i = (int32)threadIdx.x; i < a.Parts; i += threads) sum += a.Sums[(int64)row * a.Parts + i];
  return blockSum(sum, waves);
}

KERNEL(threads) void sample_verify_decide(sampleVerifyArgs a) {
  __shared__ uint64 waves[threads / waveSize];
  const int32 chain = (int32)blockIdx.x, first = a.First[chain], drafts = a.First[chain + 1] - first - 1;
  const bool block = a.Block[chain];
  int32 accepted = 0;
  double scale = 0, ratio = 1;
  bool alive = true, broken = false;
  double p = 0, q = 0; // of draft j, in its row and in its list
  for (int32 j = 0; j <= drafts; j++) broken = broken || rowSum(a, first + j, waves) == 0;
  for (int32 j = 0; j <= drafts && !broken; j++) {
    const int32 row = first + j, draft = first - chain + j;
    const uint64 sum = rowSum(a, row, waves);
    const float *weights = a.Weights + (int64)row * a.Vocab;
    const float least = a.Least[row];
    double next = 0, left = 1;      // the scale of the row's list, the share of the row that it leaves
    if (j > 0 && block) ratio = ratio * (p / q) < 1 ? ratio * (p / q) : 1;
    if (j < drafts) {
      const int32 from = a.ListAt[draft], to = a.ListAt[draft + 1], token = a.Tokens[draft];
      uint64 own = 0, all = 0, taken = 0;
      for (int32 i = from + (int32)threadIdx.x; i < to; i += threads) {
        const uint64 w = wholeOf(a.ListWeights[i]);
        all += w;
        if (a.ListIDs[i] == token) own += w;
      }
      all = blockSum(all, waves), own = blockSum(own, waves);
      next = (double)sum / ((double)all * ratio);
      if (block && ratio > 0) {
        for (int32 i = from + (int32)threadIdx.x; i < to; i += threads) {
          taken += takenOf(keptOf(weights[a.ListIDs[i]], least), a.ListWeights[i], next);
        }
        taken = blockSum(taken, waves);
        left = (double)(sum - taken) / (double)sum;
      }
      p = (double)keptOf(weights[token], least) / (double)sum, q = (double)own / (double)all;
    }
    if (!block) {
      if (alive) accepted = j, scale = next;
      if (j == drafts) break;
      const double chance = p / q < 1 ? p / q : 1;
      if (threadIdx.x == 0) a.Chances[draft] = chance;
      alive = alive && unitOf(randomOf(a.Params[row], purposeAccept)) < chance;
      continue;
    }
    if (j == 0) {
      scale = next;
      continue;
    }
    // Draft j−1 is judged here, where what may come after it is known.
    double chance = ratio;
    if (j < drafts) {
      const double rest = fusedMultiplyAdd(ratio, left, 0.0), base = rest + 1 - ratio;
      chance = ratio == 0 ? 0 : base > 0 ? rest / base : 1;
    }
    if (threadIdx.x == 0) a.Chances[draft - 1] = chance;
    if (unitOf(randomOf(a.Params[row - 1], purposeAccept)) < chance) accepted = j, scale = next;
  }
  if (threadIdx.x == 0) {
    a.Accepted[chain] = broken ? -1 : accepted;
    a.Scales[chain] = broken ? 0 : scale;
  }
}

// netOf returns the whole number of token id that the list leaves: its tokens ascend.
DEVICE uint64 netOf(const float *weights, float least, int32 id, const int32 *ids, const uint64 *taken, int32 n) {
  int32 low = 0, high = n; // the first that is not below id
  while (low < high) {
    const int32 middle = (low + high) / 2;
    if (ids[middle] < id) low = middle + 1;
    else high = middle;
  }
  const uint64 whole = keptOf(weights[id], least);
  return low < n && ids[low] == id ? whole - taken[low] : whole;
}

KERNEL(threads) void sample_verify_draw(sampleVerifyArgs a) {
  __shared__ uint64 waves[threads / waveSize];
  __shared__ uint64 taken[maxList], sums[threads], left;
  __shared__ int32 ids[maxList], from;
  const int32 chain = (int32)blockIdx.x, accepted = a.Accepted[chain];
  if (accepted < 0) {
    if (threadIdx.x == 0) a.Next[chain] = -1;
    return;
  }
  const int32 row = a.First[chain] + accepted, draft = row - chain;
  const double scale = a.Scales[chain];
  const float *weights = a.Weights + (int64)row * a.Vocab;
  const float least = a.Least[row];
  const uint64 sum = rowSum(a, row, waves);
  uint64 all = 0;
  int32 n = 0;
  if (scale > 0) {
    const int32 at = a.ListAt[draft];
    n = a.ListAt[draft + 1] - at;
    for (int32 i = (int32)threadIdx.x; i < n; i += threads) {
      ids[i] = a.ListIDs[at + i];
      taken[i] = takenOf(keptOf(weights[ids[i]], least), a.ListWeights[at + i], scale);
      all += taken[i];
    }
  }
  all = blockSum(all, waves);
  if (all == sum) n = 0, all = 0; // nothing would be left
  if (threadIdx.x == 0) {
    left = upperProduct(randomOf(a.Params[row], purposeNext), sum - all);
    int32 p = 0;
    for (int32 i = 0;; p++) {
      uint64 own = a.Sums[(int64)row * a.Parts + p];
      for (; i < n && ids[i] < (p + 1) * part; i++) own -= taken[i];
      if (left < own) break;
      left -= own;
    }
    from = p * part;
  }
  __syncthreads();
  // Each thread adds up consecutive tokens of the part.
  const int32 each = part / threads, end = minimum(a.Vocab, from + part);
  const int32 begin = minimum(end, from + (int32)threadIdx.x * each);
  uint64 own = 0;
  for (int32 id = begin; id < minimum(end, begin + each); id++) own += netOf(weights, least, id, ids, taken, n);
  sums[threadIdx.x] = own;
  __syncthreads();
  if (threadIdx.x > 0) return;
  int32 t = 0;
  for (; left >= sums[t]; t++) left -= sums[t];
  int32 id = from + t * each;
  for (uint64 w; left >= (w = netOf(weights, least, id, ids, taken, n)); id++) left -= w;
  a.Next[chain] = id;
}
