// selected = the InitBlocks first and the LocalBlocks last of the candidates, then the
// best scores, up to TopkBlocks; ascending, then −1: one block per row and index head.
// The twin is selectTwin; Go gives selectThreads.

struct selectArgs {
  const float *Scores;
  const int32 *Batch;
  int32 *Selected;
  int32 Rows, Sequences, TableEntries, PresenceWords;
  int32 IndexHeads, BlockSize, ScoreBlocks;
  int32 TopkBlocks, InitBlocks, LocalBlocks;
};

// orderOf maps scores to integers of the same order: NaN to 0, below −Inf, and both
// zeros to one.
DEVICE uint32 orderOf(float score) {
  if (score != score) return 0;
  const uint32 bits = bitsOfFloat(score + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// rankedBlocks walks the candidates in ascending order, selectThreads blocks at a
// time: each thread has a block, whether that is a candidate, and how many come before.
struct rankedBlocks {
  rowContext context;
  int32 size, blocks; // blocks up to the row's own
  int32 before;       // candidates of the steps before

  __device__ bool step(int32 from, int32 *block, int32 *rank, int32 *waves) {
    *block = from + (int32)threadIdx.x;
    const bool visible = *block < blocks && context.visible(*block, size);
    if (!context.presence) { // all of them are
      *rank = *block;
      return visible;
    }
    int32 total;
    *rank = before + blockScan(visible, waves, &total);
    before += total;
    return visible;
  }
};

KERNEL(selectThreads) void select_blocks(selectArgs a) {
  __shared__ int32 waves[selectThreads / waveSize];
  __shared__ uint32 counts[256];
  __shared__ uint32 threshold, above;
  const rowContext c = contextOf(viewBatch(a.Batch, a.Rows, a.Sequences, a.TableEntries), (int32)blockIdx.x / a.IndexHeads);
  const int32 size = a.BlockSize, blocks = c.position / size + 1;
  const float *scores = a.Scores + (int64)blockIdx.x * a.ScoreBlocks;
  int32 *selected = a.Selected + (int64)blockIdx.x * a.TopkBlocks;
  int32 block, rank, total;

  int32 candidates = blocks;
  if (c.presence) {
    int32 mine = 0;
    for (int32 b = (int32)threadIdx.x; b < blocks; b += selectThreads) mine += c.visible(b, size);
    blockScan(mine, waves, &candidates);
  }
  // Candidates of rank init ≤ rank < last compete for room places.
  const int32 init = minimum(minimum(a.InitBlocks, a.TopkBlocks), candidates);
  const int32 last = candidates - minimum(minimum(a.LocalBlocks, a.TopkBlocks - init), candidates - init);
  const int32 room = minimum(a.TopkBlocks - init - (candidates - last), last - init);

  // Finds the order of the worst candidate that is taken, byte by byte from the top. counts
  // has how many of the candidates that agree with it so far continue with which byte.
  uint32 worst = 0;
  int32 left = room; // to take among those that agree with worst
  const bool compete = room < last - init;
  for (int32 shift = 24; compete && room > 0 && shift >= 0; shift -= 8) {
    counts[threadIdx.x] = 0;
    __syncthreads();
    rankedBlocks walk = {c, size, blocks, 0};
    for (int32 from = 0; from < blocks; from += selectThreads) {
      if (!walk.step(from, &block, &rank, waves) || rank < init || rank >= last) continue;
      const uint32 order = orderOf(scores[block]);
      if (shift == 24 || (order ^ worst) >> (shift + 8) == 0) addShared(&counts[order >> shift & 255u], 1);
    }
    __syncthreads();
    // Bytes above this thread's: those of the threads before it, in reverse.
    const uint32 byte = 255 - threadIdx.x;
    const int32 n = (int32)counts[byte], better = blockScan(n, waves, &total);
    if (better < left && left <= better + n) threshold = byte, above = (uint32)better;
    __syncthreads();
    worst |= threshold << shift;
    left -= (int32)above;
    __syncthreads();
  }

  // Among blocks equal to worst the lower ones are taken.
  int32 taken = 0, equals = 0;
  rankedBlocks walk = {c, size, blocks, 0};
  for (int32 from = 0; from < blocks; from += selectThreads) {
    const bool candidate = walk.step(from, &block, &rank, waves);
    bool take = candidate, equal = false;
    if (candidate && compete && rank >= init && rank < last) {
      const uint32 order = room > 0 ? orderOf(scores[block]) : 0;
      equal = room > 0 && order == worst;
      take = room > 0 && order > worst;
    }
    if (compete) {
      const int32 before = blockScan(equal, waves, &total);
      if (equal) take = equals + before < left;
      equals += total;
    }
    const int32 at = taken + blockScan(take, waves, &total);
    if (take) selected[at] = block;
    taken += total;
  }
  for (int32 k = taken + (int32)threadIdx.x; k < a.TopkBlocks; k += selectThreads) selected[k] = -1;
}
