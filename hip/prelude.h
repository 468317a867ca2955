// The device prelude: what every kernel source is compiled behind. It gives one
// name to what compilers and vendors name differently, so that one source serves
//
//	hipRTC                                  AMD, at run time
//	NVRTC                                   NVIDIA, at run time
//	clang -x hip or cuda, without headers   checks without a GPU: define DH_NO_HEADERS
//	a C++ compiler for the host             the emulator: DH_EMULATED is defined
//
// The host defines DH_WAVE, 32 or 64. Kernels use the keywords that HIP and CUDA
// share (__global__, __shared__, threadIdx, __syncthreads) and the names below.
// Types have their Go names, so that an argument struct reads like its Go twin.

#ifndef DH_PRELUDE_H
#define DH_PRELUDE_H

#if DH_WAVE != 32 && DH_WAVE != 64
#error "define DH_WAVE as 32 or 64"
#endif

#if defined(DH_EMULATED)
#elif defined(__HIP__) || defined(__HIPCC_RTC__)
#define AMD_GPU 1
#elif defined(__CUDACC__) || defined(__CUDACC_RTC__) || defined(__CUDA__)
#define NVIDIA_GPU 1
#else
#error "unknown compiler"
#endif

typedef signed char int8;
typedef unsigned char uint8;
typedef unsigned short uint16;
typedef unsigned int uint32;
typedef unsigned long long uint64;
typedef int int32;
typedef long long int64;

#if defined(DH_NO_HEADERS)
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __forceinline__ inline __attribute__((always_inline))
// threadIdx and its kind read a register when .x is read.
#define REGISTER(T, read)                         \
  struct T {                                      \
    __declspec(property(get = get)) uint32 x;     \
    __device__ static uint32 get() { return read; } \
  };
#if defined(AMD_GPU)
#define __launch_bounds__(n) __attribute__((amdgpu_flat_work_group_size(1, n)))
REGISTER(ThreadIdx, __builtin_amdgcn_workitem_id_x())
REGISTER(BlockIdx, __builtin_amdgcn_workgroup_id_x())
REGISTER(BlockDim, __builtin_amdgcn_workgroup_size_x())
REGISTER(GridDim, __builtin_amdgcn_grid_size_x() / __builtin_amdgcn_workgroup_size_x())
static __device__ __forceinline__ void barrier() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
#define __syncthreads() barrier()
#else
#define __launch_bounds__(n) __attribute__((launch_bounds(n)))
REGISTER(ThreadIdx, __nvvm_read_ptx_sreg_tid_x())
REGISTER(BlockIdx, __nvvm_read_ptx_sreg_ctaid_x())
REGISTER(BlockDim, __nvvm_read_ptx_sreg_ntid_x())
REGISTER(GridDim, __nvvm_read_ptx_sreg_nctaid_x())
#endif
#define threadIdx (ThreadIdx{})
#define blockIdx (BlockIdx{})
#define blockDim (BlockDim{})
#define gridDim (GridDim{})
#endif

#if defined(DH_EMULATED)
#define DEVICE static inline
#else
#define DEVICE static __device__ __forceinline__
#endif

// KERNEL(n) begins a kernel that is launched with at most n threads a block. On an
// AMD GPU registers are left for two waves on a SIMD unit, so that one can run while
// the other waits for memory; on NVIDIA KERNEL(n, blocks) leaves them for that many
// blocks on a multiprocessor.
#if defined(AMD_GPU)
#define KERNEL(n, ...) extern "C" __global__ __launch_bounds__(n) __attribute__((amdgpu_waves_per_eu(2)))
#elif defined(NVIDIA_GPU) && !defined(DH_NO_HEADERS)
#define KERNEL(...) extern "C" __global__ __launch_bounds__(__VA_ARGS__)
#else
#define KERNEL(n, ...) extern "C" __global__ __launch_bounds__(n)
#endif

// 16 bytes are the widest access of one thread.
struct alignas(16) Uint32x4 {
  uint32 at[4];
};
struct alignas(16) Float32x4 {
  float at[4];
};

// ---------------------------------------------------------------- bits of floats

DEVICE float floatOfBits(uint32 bits) {
#if defined(NVIDIA_GPU) && !defined(DH_NO_HEADERS)
  return __uint_as_float(bits);
#else
  float f;
  __builtin_memcpy(&f, &bits, 4);
  return f;
#endif
}

DEVICE uint32 bitsOfFloat(float f) {
#if defined(NVIDIA_GPU) && !defined(DH_NO_HEADERS)
  return __float_as_uint(f);
#else
  uint32 bits;
  __builtin_memcpy(&bits, &f, 4);
  return bits;
#endif
}

DEVICE double doubleOfBits(uint64 bits) {
#if defined(NVIDIA_GPU) && !defined(DH_NO_HEADERS)
  return __longlong_as_double((int64)bits);
#else
  double d;
  __builtin_memcpy(&d, &bits, 8);
  return d;
#endif
}

DEVICE uint64 bitsOfDouble(double d) {
#if defined(NVIDIA_GPU) && !defined(DH_NO_HEADERS)
  return (uint64)__double_as_longlong(d);
#else
  uint64 bits;
  __builtin_memcpy(&bits, &d, 8);
  return bits;
#endif
}

DEVICE float notANumber() { return floatOfBits(0x7fc00000u); }
DEVICE float infinity() { return floatOfBits(0x7f800000u); }

// bfloat16 is the upper half of a float32: exact one way, to nearest, ties to
// even, the other. NaN stays NaN. The twin is hip.BF16.
DEVICE float floatOfBF16(uint32 half) { return floatOfBits(half << 16); }
DEVICE uint16 bf16OfFloat(float f) {
  uint32 bits = bitsOfFloat(f);
  if (f != f) return (uint16)(bits >> 16 | 0x40u);
  return (uint16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// ---------------------------------------------------------------- arithmetic

#if defined(NVIDIA_GPU) && !defined(DH_NO_HEADERS)
DEVICE float fusedMultiplyAdd(float a, float b, float c) { return fmaf(a, b, c); }
DEVICE double fusedMultiplyAdd(double a, double b, double c) { return fma(a, b, c); }
DEVICE double squareRoot(double x) { return sqrt(x); }
DEVICE float exp2Fast(float x) { return exp2f(x); }
#else
DEVICE float fusedMultiplyAdd(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE double fusedMultiplyAdd(double a, double b, double c) { return __builtin_fma(a, b, c); }
#if defined(NVIDIA_GPU)
DEVICE double squareRoot(double x) { return __nvvm_sqrt_rn_d(x); }
DEVICE float exp2Fast(float x) { return __nvvm_ex2_approx_f(x); }
#else
DEVICE double squareRoot(double x) { return __builtin_sqrt(x); }
#if defined(AMD_GPU) && defined(__has_builtin)
#if __has_builtin(__builtin_amdgcn_exp2f)
DEVICE float exp2Fast(float x) { return __builtin_amdgcn_exp2f(x); }
#define HAS_EXP2 1
#endif
#endif
#if !defined(HAS_EXP2)
DEVICE float exp2Fast(float x) { return __builtin_exp2f(x); }
#endif
#endif
#endif

// expFast returns e^x to about |x|·2^−23 relative; 0 below the normal numbers.
DEVICE float expFast(float x) { return exp2Fast(x * 1.4426950408889634f); }

DEVICE bool isFinite(float f) { return (bitsOfFloat(f) & 0x7f800000u) != 0x7f800000u; }
DEVICE int32 minimum(int32 a, int32 b) { return a < b ? a : b; }
DEVICE int64 minimum(int64 a, int64 b) { return a < b ? a : b; }
DEVICE int32 maximum(int32 a, int32 b) { return a > b ? a : b; }
DEVICE int32 ceilDiv(int32 a, int32 b) { return a / b + (a % b != 0); }

// exp64 returns e^x to a few units in the last place of float64, without a device
// library. NaN gives NaN.
DEVICE double exp64(double x) {
  if (x > 709.79) return (double)infinity();
  if (x < -745.2) return 0.0;
  if (x != x) return x;
  const int32 k = (int32)(x * 1.4426950408889634 + (x < 0 ? -0.5 : 0.5));
  // ln 2 in two parts; k·upper is exact.
  double r = fusedMultiplyAdd((double)-k, 6.93147180369123816490e-01, x);
  r = fusedMultiplyAdd((double)-k, 1.90821492927058770002e-10, r);
  double sum = 1.0; // Horner over Σ r^n/n!, |r| ≤ ln2/2: what is left out is below 2^−57
#pragma unroll
  for (int n = 14; n > 0; n--) sum = fusedMultiplyAdd(sum, r * (1.0 / n), 1.0);
  // 2^k in two steps: the result may be subnormal, or 2^1024 too much for one.
  const int32 half = k / 2;
  return sum * doubleOfBits((uint64)(1023 + half) << 52) * doubleOfBits((uint64)(1023 + k - half) << 52);
}

// sinCos64 sets the sine and cosine of |x| < 2^31 to about 2^−50.
DEVICE void sinCos64(double x, double *sine, double *cosine) {
  const double turns = x * 0.63661977236758134308; // 2/π
  const int64 n = (int64)(turns + (turns < 0 ? -0.5 : 0.5));
  // π/2 in two parts; the fused product is exact before it is subtracted.
  double r = fusedMultiplyAdd((double)-n, 1.57079632679489655800e+00, x);
  r = fusedMultiplyAdd((double)-n, 6.12323399573676603587e-17, r);
  const double square = r * r;
  double s = 1.0, c = 1.0; // Horner over the Taylor series, |r| ≤ π/4
#pragma unroll
  for (int k = 9; k > 0; k--) {
    s = fusedMultiplyAdd(s, -square * (1.0 / (2 * k * (2 * k + 1))), 1.0);
    c = fusedMultiplyAdd(c, -square * (1.0 / ((2 * k - 1) * 2 * k)), 1.0);
  }
  s *= r;
  *sine = n & 1 ? c : s;
  *cosine = n & 1 ? s : c;
  if (n & 2) *sine = -*sine;
  if ((n + 1) & 2) *cosine = -*cosine;
}

// addShared adds to a counter in shared memory that other threads add to as well.
#if defined(DH_EMULATED)
DEVICE void addShared(uint32 *counter, uint32 n) { *counter += n; } // one thread at a time
#elif defined(AMD_GPU)
DEVICE void addShared(uint32 *counter, uint32 n) { __hip_atomic_fetch_add(counter, n, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP); }
#elif defined(DH_NO_HEADERS)
DEVICE void addShared(uint32 *counter, uint32 n) { __nvvm_atom_add_gen_i((int *)counter, (int)n); }
#else
DEVICE void addShared(uint32 *counter, uint32 n) { atomicAdd(counter, n); }
#endif

// ---------------------------------------------------------------- waves and blocks

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

// ---------------------------------------------------------------- matrix units

// multiplyAdd16x8 is d += a · b of one wave of 32: a is 16 × 16 and b 16 × 8 bfloat16,
// d 16 × 8 float32. Lane l, with g = l/4 and t = l%4, holds
//
//	a[0], a[1]   rows g and g+8, columns 2t, 2t+1        two in each, the first in the lower half
//	a[2], a[3]   rows g and g+8, columns 2t+8, 2t+9
//	b[0], b[1]   column g, rows 2t, 2t+1 and 2t+8, 2t+9
//	d[0], d[1]   row g, columns 2t and 2t+1
//	d[2], d[3]   row g+8
#if defined(DH_EMULATED) && DH_WAVE == 32
#define HAS_MULTIPLY_ADD_16X8 1
#define multiplyAdd16x8(d, a, b) emulateMultiplyAdd(d, a, b, __LINE__)
static inline void emulateMultiplyAdd(float *d, const uint32 *a, const uint32 *b, int line) {
  uint64 registers[3][32];
  for (int32 r = 0; r < 3; r++) {
    const uint64 own = r < 2 ? a[2 * r] | (uint64)a[2 * r + 1] << 32 : b[0] | (uint64)b[1] << 32;
    const unsigned long long *all = emulator_gather(own, line);
    for (int32 lane = 0; lane < 32; lane++) registers[r][lane] = all[lane];
  }
  const auto half = [&](int32 r, int32 lane, int32 at) { return floatOfBF16(registers[r][lane] >> 16 * at & 0xffff); };
  const int32 g = (int32)emulator_lane() / 4, t = (int32)emulator_lane() % 4;
  for (int32 i = 0; i < 4; i++) {
    for (int32 k = 0; k < 16; k++) {
      const int32 from = k % 8 / 2, at = k % 2;
      d[i] += half(k / 8, g * 4 + from, 2 * (i / 2) + at) * half(2, (2 * t + i % 2) * 4 + from, 2 * (k / 8) + at);
    }
  }
}
#elif defined(NVIDIA_GPU) && __CUDA_ARCH__ >= 800
#define HAS_MULTIPLY_ADD_16X8 1
DEVICE void multiplyAdd16x8(float *d, const uint32 *a, const uint32 *b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

#if defined(NVIDIA_GPU) && __CUDA_ARCH__ >= 800
// packBF16 rounds two floats to bfloat16, the first into the lower half.
#define HAS_PACK_BF16 1
DEVICE uint32 packBF16(float first, float second) {
  uint32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}
#endif

// A wave multiplies two matrices of 16 rows, d += a · bᵀ, a piece of columns at a time:
// Piece::lanes · 16 columns of which each lane holds 16 of Piece::rows rows, as bfloat16, the
// first in the lower half.
//
//	lane's row r      pieceRow(r)                        of a and of b
//	lane's columns    16 · pieceLane() … 16 · pieceLane() + 15
//	lane's d[i]       row pieceDRow(i) of a, row pieceDColumn(i) of b
//
// A matrix unit takes a few columns of each lane at a time. Which they are is the same in
// a and in b, and does not matter otherwise.
//
// multiplyPieces(d, a, high, low) adds a · lowᵀ and then a · highᵀ in float32. Matrix
// units of NVIDIA cut sums off: there d itself is added to in the ordinary way.
#if defined(HAS_MULTIPLY_ADD_16X8)
#define PIECE_ROWS 2
#define PIECE_LANES 4
DEVICE int32 pieceRow(int32 r) { return (int32)laneIndex() / 4 + 8 * r; }
DEVICE int32 pieceLane() { return (int32)laneIndex() % 4; }
DEVICE int32 pieceDRow(int32 i) { return (int32)laneIndex() / 4 + 8 * (i / 2 % 2); }
DEVICE int32 pieceDColumn(int32 i) { return (int32)laneIndex() % 4 * 2 + i % 2 + 8 * (i / 4); }
#elif (defined(DH_EMULATED) && DH_WAVE == 64) || defined(__gfx90a__) || defined(__gfx940__) || defined(__gfx941__) || defined(__gfx942__) || defined(__gfx950__)
#define HAS_MULTIPLY_ADD_16X16 1
#define PIECE_ROWS 1
#define PIECE_LANES 4
DEVICE int32 pieceRow(int32) { return (int32)laneIndex() % 16; }
DEVICE int32 pieceLane() { return (int32)laneIndex() / 16; }
DEVICE int32 pieceDRow(int32 i) { return (int32)laneIndex() / 16 * 4 + i; }
DEVICE int32 pieceDColumn(int32) { return (int32)laneIndex() % 16; }
#elif defined(__GFX12__)
#define PIECE_ROWS 1
#define PIECE_LANES 2
DEVICE int32 pieceRow(int32) { return (int32)laneIndex() % 16; }
DEVICE int32 pieceLane() { return (int32)laneIndex() / 16; }
DEVICE int32 pieceDRow(int32 i) { return (int32)laneIndex() / 16 * 8 + i; }
DEVICE int32 pieceDColumn(int32) { return (int32)laneIndex() % 16; }
#elif defined(__GFX11__)
#define PIECE_ROWS 1
#define PIECE_LANES 1
DEVICE int32 pieceRow(int32) { return (int32)laneIndex() % 16; }
DEVICE int32 pieceLane() { return 0; }
DEVICE int32 pieceDRow(int32 i) { return 2 * i + (int32)laneIndex() / 16; }
DEVICE int32 pieceDColumn(int32) { return (int32)laneIndex() % 16; }
#else // no matrix unit: rows of a come from the lanes that hold them
#define PIECE_ROWS 1
#define PIECE_LANES 1
#if defined(__GFX10__) // as a lane can read any of the 16 around it, the upper ones have rows 8 … 15 first
DEVICE int32 pieceRow(int32) { return (int32)(laneIndex() % 16 ^ laneIndex() / 16 * 8); }
#else
DEVICE int32 pieceRow(int32) { return (int32)laneIndex() % 16; }
#endif
DEVICE int32 pieceLane() { return 0; }
DEVICE int32 pieceDRow(int32 i) { return (int32)laneIndex() / 16 * (256 / (int32)waveSize) + i; }
DEVICE int32 pieceDColumn(int32) { return pieceRow(0); }
#endif

// keepOrder has the compiler move nothing from one side to the other: where a lane holds
// pieces that are wide, it would read more of them ahead than it has registers for.
DEVICE void keepOrder() {
#if defined(AMD_GPU)
  if (PIECE_LANES == 1) __builtin_amdgcn_sched_barrier(0);
#endif
}

struct Piece {
  static constexpr int32 rows = PIECE_ROWS, lanes = PIECE_LANES, values = 256 / waveSize; // of d
  uint32 pairs[rows][8];
};
#undef PIECE_ROWS
#undef PIECE_LANES

#if defined(HAS_MULTIPLY_ADD_16X8)
DEVICE void multiplyPieces(float *d, const Piece &a, const Piece &high, const Piece &low) {
  float products[Piece::values] = {};
#pragma unroll
  for (int32 part = 0; part < 2; part++) {
    const Piece &b = part == 0 ? low : high;
#pragma unroll
    for (int32 k = 0; k < 8; k += 2) {
      const uint32 as[4] = {a.pairs[0][k], a.pairs[1][k], a.pairs[0][k + 1], a.pairs[1][k + 1]};
#pragma unroll
      for (int32 r = 0; r < 2; r++) {
        const uint32 bs[2] = {b.pairs[r][k], b.pairs[r][k + 1]};
        multiplyAdd16x8(products + 4 * r, as, bs);
      }
    }
  }
#pragma unroll
  for (int32 i = 0; i < Piece::values; i++) d[i] += products[i];
}
#elif defined(DH_EMULATED)
#define multiplyPieces(d, a, high, low) (emulatePieces(d, a, low, __LINE__), emulatePieces(d, a, high, __LINE__))
static inline void emulatePieces(float *d, const Piece &a, const Piece &b, int line) {
  for (int32 k = 0; k < 8; k++) {
    uint64 pairs[DH_WAVE];
    const unsigned long long *all = emulator_gather(a.pairs[0][k] | (uint64)b.pairs[0][k] << 32, line);
    for (int32 lane = 0; lane < DH_WAVE; lane++) pairs[lane] = all[lane];
    for (int32 i = 0; i < Piece::values; i++) {
      for (int32 of = 0; of < Piece::lanes; of++) {
        const uint64 left = pairs[of * 16 + pieceDRow(i)], right = pairs[of * 16 + pieceDColumn(i)] >> 32;
        d[i] += floatOfBF16(left & 0xffff) * floatOfBF16(right & 0xffff);
        d[i] += floatOfBF16(left >> 16 & 0xffff) * floatOfBF16(right >> 16);
      }
    }
  }
}
#elif defined(HAS_MULTIPLY_ADD_16X16) || defined(__GFX12__) || defined(__GFX11__)
// A unit takes pieceTaken columns of a lane.
#if defined(HAS_MULTIPLY_ADD_16X16)
constexpr int32 pieceTaken = 4;
#define MULTIPLY_ADD(a, b, d) __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, b, d, 0, 0, 0)
#elif defined(__GFX12__)
constexpr int32 pieceTaken = 8;
#define MULTIPLY_ADD(a, b, d) __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12(a, b, d)
#else
constexpr int32 pieceTaken = 16;
#define MULTIPLY_ADD(a, b, d) __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(a, b, d)
#endif
DEVICE void multiplyPieces(float *d, const Piece &a, const Piece &high, const Piece &low) {
  typedef short operand __attribute__((ext_vector_type(pieceTaken)));
  typedef float result __attribute__((ext_vector_type(Piece::values)));
  result sums;
#pragma unroll
  for (int32 i = 0; i < Piece::values; i++) sums[i] = d[i];
#pragma unroll
  for (int32 part = 0; part < 2; part++) {
    const Piece &b = part == 0 ? low : high;
#pragma unroll
    for (int32 k = 0; k < 8; k += pieceTaken / 2) {
      operand as, bs;
      __builtin_memcpy(&as, a.pairs[0] + k, sizeof(as));
      __builtin_memcpy(&bs, b.pairs[0] + k, sizeof(bs));
      sums = MULTIPLY_ADD(as, bs, sums);
    }
  }
#pragma unroll
  for (int32 i = 0; i < Piece::values; i++) d[i] = sums[i];
}
#undef MULTIPLY_ADD
#else
#if defined(__GFX10__)
template <int32 I> DEVICE uint32 pairOfRow(uint32 pair) { return (uint32)__builtin_amdgcn_update_dpp(0, (int)pair, 0x150 + I, 0xf, 0xf, false); } // row_share
#else
template <int32 I> DEVICE uint32 pairOfRow(uint32 pair) { return shuffle(pair, (uint32)pieceDRow(I)); }
#endif
template <int32 I> DEVICE void multiplyPair(float *d, uint32 pair, float first, float second) {
  const uint32 row = pairOfRow<I>(pair);
  d[I] = fusedMultiplyAdd(floatOfBits(row << 16), first, d[I]);
  d[I] = fusedMultiplyAdd(floatOfBits(row & 0xffff0000u), second, d[I]);
  if constexpr (I + 1 < Piece::values) multiplyPair<I + 1>(d, pair, first, second);
}
// Both parts of x are one float32, exactly.
DEVICE void multiplyPieces(float *d, const Piece &a, const Piece &high, const Piece &low) {
#pragma unroll
  for (int32 k = 0; k < 8; k++) {
    const uint32 h = high.pairs[0][k], l = low.pairs[0][k];
    multiplyPair<0>(d, a.pairs[0][k], floatOfBits(h << 16) + floatOfBits(l << 16), floatOfBits(h & 0xffff0000u) + floatOfBits(l & 0xffff0000u));
  }
}
#endif

#endif // DH_PRELUDE_H
