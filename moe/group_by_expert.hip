// order = the pairs of the experts held sorted by expert, active = those experts with a
// pair: integers, in one block. The twin is groupByExpertTwin; Go gives groupThreads.

struct groupByExpertArgs {
  const int32 *IDs;
  int32 *Offsets, *Order, *Active, *ActiveCount;
  int32 Pairs, Experts, First, Held;
};

constexpr int32 groupWaves = groupThreads / (int32)waveSize;

// heldExpert returns the expert of a pair, counted from the held expert from; groupThreads
// or more if it is not one of the groupThreads from there on that are held.
DEVICE uint32 heldExpert(const groupByExpertArgs &a, int32 pair, int32 from) {
  const uint32 held = (uint32)(a.IDs[pair] - a.First);
  return held < (uint32)a.Held ? held - (uint32)from : ~0u;
}

// placePairs writes the pairs of the held experts from … from+groupThreads−1 to order, in
// their order; next[e] is where the next of expert from + e goes. counts is one value
// for each wave and expert.
DEVICE void placePairs(const groupByExpertArgs &a, int32 from, int32 *next, int32 (*counts)[groupThreads]) {
  const int32 thread = (int32)threadIdx.x;
  for (int32 first = 0; first < a.Pairs; first += groupThreads) {
    const int32 pair = first + thread;
    const uint32 expert = pair < a.Pairs ? heldExpert(a, pair, from) : ~0u;
    const bool here = expert < (uint32)groupThreads;
    int32 before = 0, all = 0; // pairs of this wave with this expert
    for (uint32 lane = 0; lane < waveSize; lane++) {
      const bool equal = shuffle(expert, lane) == expert;
      all += equal;
      before += equal && lane < laneIndex();
    }
    for (int32 w = 0; w < groupWaves; w++) counts[w][thread] = 0;
    __syncthreads();
    if (here && before == 0) counts[waveIndex()][expert] = all;
    __syncthreads();
    int32 at = next[thread]; // of the expert that this thread counts for
    for (int32 w = 0; w < groupWaves; w++) {
      const int32 count = counts[w][thread];
      counts[w][thread] = at;
      at += count;
    }
    next[thread] = at;
    __syncthreads();
    if (here) a.Order[counts[waveIndex()][expert] + before] = pair;
    __syncthreads();
  }
}

KERNEL(groupThreads) void group_by_expert(groupByExpertArgs a) {
  startNext();
  __shared__ int32 waves[groupWaves], next[groupThreads], counts[groupWaves][groupThreads];
  __shared__ uint32 pairs[groupThreads];
  const int32 thread = (int32)threadIdx.x;
  int32 first = 0, active = 0; // pairs and picked experts of the steps before
  for (int32 from = 0; from < a.Held; from += groupThreads) {
    pairs[thread] = 0;
    __syncthreads();
    for (int32 p = thread; p < a.Pairs; p += groupThreads) {
      const uint32 expert = heldExpert(a, p, from);
      if (expert < (uint32)groupThreads) addShared(&pairs[expert], 1);
    }
    __syncthreads();
    const int32 expert = from + thread, count = (int32)pairs[thread];
    int32 total, picked;
    next[thread] = first + blockScan(count, waves, &total);
    const int32 slot = active + blockScan(count > 0, waves, &picked);
    if (expert < a.Held) {
      a.Offsets[expert] = next[thread];
      if (count > 0) a.Active[slot] = expert;
    }
    placePairs(a, from, next, counts);
    first += total, active += picked;
  }
  if (thread == 0) a.Offsets[a.Held] = first, *a.ActiveCount = active;
}
