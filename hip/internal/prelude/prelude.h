// The device prelude: it comes before every kernel source. It gives one
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
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
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

// KERNEL(n) begins a kernel that is launched with at most n threads a block. KERNEL(n,
// blocks) begins one of which that many blocks must fit on a multiprocessor of an NVIDIA
// GPU. On an AMD GPU the compiler leaves registers for two waves on a SIMD unit, so that
// one can run while the other waits for memory.
#if defined(AMD_GPU)
#define KERNEL(n, ...) extern "C" __global__ __launch_bounds__(n) __attribute__((amdgpu_waves_per_eu(2)))
#else
#define KERNEL(...) extern "C" __global__ __launch_bounds__(__VA_ARGS__)
#endif

// A kernel that StartsEarly may run while the launch before it ends. It calls awaitInput,
// in every thread, before it reads or writes anything that launches before it write or
// read; from there on they have ended and their writes are seen. startNext lets the launch
// after it start early, if it does, once every block has called startNext or ended. Where
// launches run one after another neither has anything to do.
#if defined(NVIDIA_GPU) && __CUDA_ARCH__ >= 900
DEVICE void startNext() { asm volatile("griddepcontrol.launch_dependents;"); }
DEVICE void awaitInput() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
#else
DEVICE void startNext() {}
DEVICE void awaitInput() {}
#endif

// 16 bytes are the widest access of one thread.
struct alignas(16) Uint32x4 {
  uint32 at[4];
};
struct alignas(16) Float32x4 {
  float at[4];
};

// GLOBAL is for a pointer that a kernel reads from memory: what it points to is memory of the
// GPU, not shared memory. AMD's compilers know that of arguments alone. Where they do not, a
// thread that waits for one of its loads waits for all of them.
#if defined(AMD_GPU)
#define GLOBAL __attribute__((address_space(1)))
#else
#define GLOBAL
#endif

// loadOnce reads what no other thread reads soon, past the nearest cache, which keeps what
// all of them read.
DEVICE Uint32x4 loadOnce(const Uint32x4 *p) {
#if defined(NVIDIA_GPU)
  Uint32x4 v;
  asm volatile("{ .reg .u64 g; cvta.to.global.u64 g, %4; ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [g]; }"
               : "=r"(v.at[0]), "=r"(v.at[1]), "=r"(v.at[2]), "=r"(v.at[3])
               : "l"(p));
  return v;
#else
  return *p;
#endif
}

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

// floatOfE4M3 decodes an OCP e4m3 code: 0x7f and 0xff are NaN. Its bits, moved to
// those of a float32, are the value times 2^−120, subnormals included. The twin is hip.E4M3.
DEVICE float floatOfE4M3(uint32 code) {
  if ((code & 0x7fu) == 0x7fu) return notANumber();
  return floatOfBits((code & 0x80u) << 24 | (code & 0x7fu) << 20) * 0x1p120f;
}

// e4m3OfFloat rounds to nearest, ties to even, beyond 448 to 448. NaN stays NaN.
DEVICE uint8 e4m3OfFloat(float f) {
  const uint32 bits = bitsOfFloat(f), sign = bits >> 24 & 0x80u;
  uint32 magnitude = bits & 0x7fffffffu;
  if (f != f) return (uint8)(sign | 0x7fu);
  if (magnitude >= 0x43e00000u) return (uint8)(sign | 0x7eu); // 448
  if (magnitude < 121u << 23) return (uint8)(sign | (bitsOfFloat(floatOfBits(magnitude) + 0x1p14f) & 0xffu)); // in steps of 2^−9
  magnitude += 0x7ffffu + (magnitude >> 20 & 1u); // a carry into the exponent is right as it is
  return (uint8)(sign | ((magnitude >> 20) - (120u << 3)));
}

// ---------------------------------------------------------------- arithmetic

// The maximumNumber of a number and NaN is the number. exp2Fast returns 2^x to about 2^−22 relative; 0
// below the normal numbers.
#if defined(NVIDIA_GPU) && !defined(DH_NO_HEADERS)
DEVICE float fusedMultiplyAdd(float a, float b, float c) { return fmaf(a, b, c); }
DEVICE double fusedMultiplyAdd(double a, double b, double c) { return fma(a, b, c); }
DEVICE double squareRoot(double x) { return sqrt(x); }
DEVICE float exp2Fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float maximumNumber(float a, float b) { return fmaxf(a, b); }
#else
DEVICE float maximumNumber(float a, float b) { return __builtin_fmaxf(a, b); }
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

#endif // DH_PRELUDE_H
