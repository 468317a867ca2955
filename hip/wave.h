#ifndef DH_WAVE_H
#define DH_WAVE_H

// A wave is waveSize threads in step: threads of a block in their order. Calls of
// what follows must be reached by all threads of a wave, or of the block, together.

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

DEVICE float swapLanes(float value, uint32 mask) { return floatOfBits(shuffleXor(bitsOfFloat(value), mask)); }
DEVICE double swapLanes(double value, uint32 mask) {
  const uint64 bits = bitsOfDouble(value);
  const uint32 low = shuffleXor((uint32)bits, mask), high = shuffleXor((uint32)(bits >> 32), mask);
  return doubleOfBits((uint64)high << 32 | low);
}

// waveSum returns the sum over the wave, the same in every lane.
template <class T> DEVICE T waveSum(T value) {
#pragma unroll
  for (uint32 mask = waveSize / 2; mask > 0; mask /= 2) value += swapLanes(value, mask);
  return value;
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

// blockScan returns the sum of the values of the threads before this one, and in
// *total that of all. waves is shared memory, one value for each wave.
DEVICE int32 blockScan(int32 value, int32 *waves, int32 *total) {
  const uint32 lane = laneIndex();
  int32 sum = value; // of this lane and those before it
#pragma unroll
  for (uint32 step = 1; step < waveSize; step *= 2) {
    const int32 before = (int32)shuffle((uint32)sum, lane >= step ? lane - step : lane);
    if (lane >= step) sum += before;
  }
  if (lane == waveSize - 1) waves[waveIndex()] = sum;
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
