#ifndef DH_WAVE_H
#define DH_WAVE_H

// A wave is waveSize consecutive threads of a block that run in step. All threads of a
// wave, or of the block, must reach a call of the following functions together.

constexpr uint32 waveSize = DH_WAVE;

DEVICE uint32 waveIndex() { return threadIdx.x / waveSize; }

#if defined(DH_EMULATED)
DEVICE uint32 laneIndex() { return emulator_lane(); }
// Macros, so that the emulator names the line of a divergent one.
#define shuffle(value, lane) ((uint32)emulator_gather((uint32)(value), __LINE__)[lane])
#define shuffleXor(value, mask) shuffle(value, emulator_lane() ^ (uint32)(mask))
#elif defined(AMD_GPU)
DEVICE uint32 laneIndex() { return threadIdx.x % waveSize; }
DEVICE uint32 shuffle(uint32 value, uint32 lane) { return (uint32)__builtin_amdgcn_ds_bpermute((int)(lane << 2), (int)value); }
DEVICE uint32 shuffleXor(uint32 value, uint32 mask) { return shuffle(value, laneIndex() ^ mask); }
#elif defined(DH_NO_HEADERS)
DEVICE uint32 laneIndex() { return threadIdx.x % waveSize; }
DEVICE uint32 shuffle(uint32 value, uint32 lane) { return (uint32)__nvvm_shfl_sync_idx_i32(~0u, (int)value, (int)lane, 31); }
DEVICE uint32 shuffleXor(uint32 value, uint32 mask) { return (uint32)__nvvm_shfl_sync_bfly_i32(~0u, (int)value, (int)mask, 31); }
#else
DEVICE uint32 laneIndex() { return threadIdx.x % waveSize; }
DEVICE uint32 shuffle(uint32 value, uint32 lane) { return __shfl_sync(~0u, value, (int)lane); }
DEVICE uint32 shuffleXor(uint32 value, uint32 mask) { return __shfl_xor_sync(~0u, value, (int)mask); }
#endif

// waveBarrier lets the lanes of a wave see what they have written to shared memory.
#if defined(DH_EMULATED)
#define waveBarrier() ((void)shuffle(0u, 0))
#elif defined(NVIDIA_GPU)
DEVICE void waveBarrier() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }
#else
DEVICE void waveBarrier() { __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront"), __builtin_amdgcn_wave_barrier(); }
#endif

// sameInWave returns a value that all lanes have, and tells AMD's compiler so. madeAgain does
// too, and has it make again what depends on it: before a loop, that would take registers.
// madeHere has it make a value here, not later: what it is made of may take more registers.
#if defined(AMD_GPU)
DEVICE int32 sameInWave(int32 value) { return __builtin_amdgcn_readfirstlane(value); }
DEVICE int32 madeAgain(int32 value) {
  asm volatile("" : "+s"(value));
  return value;
}
DEVICE float madeHere(float value) {
  asm volatile("" : "+v"(value));
  return value;
}
#else
DEVICE int32 sameInWave(int32 value) { return value; }
DEVICE int32 madeAgain(int32 value) {
#if defined(NVIDIA_GPU)
  asm volatile("" : "+r"(value));
#endif
  return value;
}
DEVICE float madeHere(float value) { return value; }
#endif

DEVICE uint32 swapLanes(uint32 value, uint32 mask) { return shuffleXor(value, mask); }
DEVICE float swapLanes(float value, uint32 mask) { return floatOfBits(shuffleXor(bitsOfFloat(value), mask)); }
DEVICE uint64 swapLanes(uint64 value, uint32 mask) {
  const uint32 low = shuffleXor((uint32)value, mask), high = shuffleXor((uint32)(value >> 32), mask);
  return (uint64)high << 32 | low;
}
DEVICE double swapLanes(double value, uint32 mask) { return doubleOfBits(swapLanes(bitsOfDouble(value), mask)); }

// adding makes waveFold sum values.
struct adding {
  template <class T> DEVICE T of(T a, T b) { return a + b; }
};

#if defined(DH_EMULATED)
// In the emulator one lane does the work of all lanes: it combines the same values in the
// same order.
template <class Combine, uint32 first, uint32 last, class T> static void foldLanes(void *const *lanes) {
  T values[waveSize];
  for (uint32 lane = 0; lane < waveSize; lane++) values[lane] = *(const T *)lanes[lane];
  for (uint32 mask = first; mask >= last && mask > 0; mask /= 2) {
    for (uint32 from = 0; from < waveSize; from += 2 * mask) {
      for (uint32 lane = from; lane < from + mask; lane++) {
        const T low = values[lane], high = values[lane + mask];
        values[lane] = Combine::of(low, high), values[lane + mask] = Combine::of(high, low);
      }
    }
  }
  for (uint32 lane = 0; lane < waveSize; lane++) *(T *)lanes[lane] = values[lane];
}
template <int32 M, uint32 first> static void sumLanesEach(void *const *lanes) {
  int32 n = M;
  for (uint32 mask = first; mask > 0; mask /= 2, n = n == 1 ? 1 : n / 2) {
    for (uint32 lane = 0; lane < waveSize; lane++) {
      if (lane & mask) continue;
      float *lower = (float *)lanes[lane], *upper = (float *)lanes[lane + mask];
      for (int32 k = 0; k < (n == 1 ? 1 : n / 2); k++) {
        const int32 other = n == 1 ? k : k + n / 2;
        const float low = lower[k] + upper[k], high = upper[other] + lower[other];
        lower[k] = low, upper[k] = high;
      }
    }
  }
}
static inline void scanLanes(void *const *lanes) {
  for (uint32 lane = 1; lane < waveSize; lane++) *(int32 *)lanes[lane] += *(const int32 *)lanes[lane - 1];
}
#endif

// waveFold combines the values of the lanes that differ in the bits of first, first/2,
// …, last alone: pairwise, first apart, then first/2. It is the same in each of them.
template <class Combine, uint32 first = waveSize / 2, uint32 last = 1, class T> DEVICE T waveFold(T value) {
#if defined(DH_EMULATED)
  emulator_together(&value, foldLanes<Combine, first, last, T>, __LINE__);
#else
#pragma unroll
  for (uint32 mask = first; mask >= last && mask > 0; mask /= 2) value = Combine::of(value, swapLanes(value, mask));
#endif
  return value;
}

// waveSum returns the sum over the wave, the same in every lane.
template <class T> DEVICE T waveSum(T value) { return waveFold<adding>(value); }

// waveSumEach sums each of M values over the lanes that differ in bits below 2·mask, M a
// power of two: lanes hand half of their values over and keep the other half, step by step.
// Among 2·mask lanes, lane l keeps the sums from value l·M/(2·mask) on: several, or, if
// there are more lanes than values, one that its neighbors have too.
template <int32 M, uint32 mask = waveSize / 2> DEVICE void waveSumEach(float *v) {
#if defined(DH_EMULATED)
  emulator_together(v, sumLanesEach<M, mask>, __LINE__);
#else
  if constexpr (M == 1) {
    v[0] = waveFold<adding, mask>(v[0]);
  } else if constexpr (mask > 0) {
    const bool upper = laneIndex() & mask;
#pragma unroll
    for (int32 k = 0; k < M / 2; k++) {
      const float low = v[k], high = v[k + M / 2]; // read before the choice: an address is not chosen
      v[k] = (upper ? high : low) + swapLanes(upper ? low : high, mask);
    }
    waveSumEach<M / 2, mask / 2>(v);
  }
#endif
}

// blockSum returns the sum over the block, the same in every thread. waves is
// shared memory, one value for each wave.
template <class T> DEVICE T blockSum(T value, T *waves) {
  value = waveSum(value);
  if (laneIndex() == 0) waves[waveIndex()] = value;
  __syncthreads();
  T sum = 0;
  for (uint32 w = 0; w < blockDim.x / waveSize; w++) sum += waves[w];
  __syncthreads();
  return sum;
}

// waveScan returns the sum of the values of this lane and of those before it.
DEVICE int32 waveScan(int32 sum) {
#if defined(DH_EMULATED)
  emulator_together(&sum, scanLanes, __LINE__);
#else
  const uint32 lane = laneIndex();
#pragma unroll
  for (uint32 step = 1; step < waveSize; step *= 2) {
    const int32 before = (int32)shuffle((uint32)sum, lane >= step ? lane - step : lane);
    if (lane >= step) sum += before;
  }
#endif
  return sum;
}

// blockScan returns the sum of the values of the threads before this one, and in
// *total that of all. waves is shared memory, one value for each wave.
DEVICE int32 blockScan(int32 value, int32 *waves, int32 *total) {
  const int32 sum = waveScan(value);
  if (laneIndex() == waveSize - 1) waves[waveIndex()] = sum;
  __syncthreads();
  int32 before = 0, all = 0;
  for (uint32 w = 0; w < blockDim.x / waveSize; w++) {
    if (w < waveIndex()) before += waves[w];
    all += waves[w];
  }
  __syncthreads();
  *total = all;
  return before + sum - value;
}

#endif // DH_WAVE_H
