// order = the pairs sorted by expert, active = the experts with a pair: integers, in one
// block. The twin is groupByExpertTwin.

struct groupByExpertArgs {
  const int32 *IDs;
  int32 *Offsets, *Order, *Active, *ActiveCount;
  int32 Pairs, Experts;
};

constexpr int32 groupThreads = 256;

KERNEL(groupThreads) void group_by_expert(groupByExpertArgs a) {
  __shared__ int32 waves[groupThreads / waveSize];
  int32 first = 0, active = 0; // pairs and picked experts of the steps before
  for (int32 from = 0; from < a.Experts; from += groupThreads) {
    const int32 expert = from + (int32)threadIdx.x;
    int32 count = 0, total, picked;
    if (expert < a.Experts) {
      for (int32 p = 0; p < a.Pairs; p++) count += a.IDs[p] == expert;
    }
    int32 next = first + blockScan(count, waves, &total);
    const int32 slot = active + blockScan(count > 0, waves, &picked);
    if (expert < a.Experts) {
      a.Offsets[expert] = next;
      if (count > 0) a.Active[slot] = expert;
      for (int32 p = 0, left = count; left > 0; p++) {
        if (a.IDs[p] == expert) a.Order[next++] = p, left--;
      }
    }
    first += total, active += picked;
  }
  if (threadIdx.x == 0) a.Offsets[a.Experts] = first, *a.ActiveCount = active;
}
