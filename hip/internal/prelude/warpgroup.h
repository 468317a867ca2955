#ifndef DH_WARPGROUP_H
#define DH_WARPGROUP_H

// A warpgroup is four waves of 32 that multiply together, on an NVIDIA GPU: a, 64 rows of
// weights, is in registers, and b is read from shared memory, while the waves go on. Hopper
// has an instruction for it; elsewhere each wave multiplies its 16 rows by itself.
//
//	warpgroupBegin();                 shared memory and registers are as they were written
//	warpgroupMultiply<N>(d, a, b, q); d += a · bᵀ, a of 64 × 16 and b of N × 16 bfloat16, any times
//	warpgroupEnd();
//	…                                 d and a must not be touched
//	warpgroupWait();
//
// Wave w of the group holds rows 16w … 16w+15 of a and of d, each lane as multiplyAdd16x8
// says: d[4j … 4j+3] are those of rows 8j … 8j+7 of b.
//
// A tile of b in shared memory has rows of 128 bytes, and lies on a multiple of 1 024. The
// pieces of 16 bytes of a row are exchanged, so that eight rows of one piece lie in
// different banks:
//
//	row 0    0 1 2 3 4 5 6 7
//	row 1    1 0 3 2 5 4 7 6
//	row 2    2 3 0 1 6 7 4 5     piece p of row r is at r · 128 + (p ^ r%8) · 16
//	…
//
// The 16 columns of b are the pieces 2q and 2q+1 of the tile's rows.
//
// Tiles come from memory in which rows lie in the same order, several steps ahead:
//
//	tilesInit(arrivals, n);                       once, before a barrier of the block
//	tilesExpect(arrival, bytes);                  that many will come,
//	tilesFetch(arrival, to, from, bytes);         in these, multiples of 16
//	…
//	tilesAwait(arrival, parity);                  of how often it was expected before, even or odd
//	…
//	tilesEnd(arrivals, n);                        after all have come, and a barrier of the block
//
// All threads of the first wave expect and fetch, all of the block call the others. A barrier
// of the block lies between a fetch and the multiplications with what it brought, and between
// those and the next fetch to that place.
#if DH_WAVE == 32 && !defined(AMD_GPU) && !defined(__AMDGCN__)
#define HAS_WARPGROUPS 1

constexpr int32 warpgroupThreads = 128;

// TILES declares shared memory for tiles. How much, the kernel's declaration says in Go, as
// it may be more than a block has unasked.
#if defined(DH_EMULATED)
#define TILES(name, bytes) alignas(1024) __shared__ uint8 name[bytes]
#else
#define TILES(name, bytes) extern __shared__ __attribute__((aligned(1024))) uint8 name[]
#endif

#if defined(NVIDIA_GPU)
DEVICE uint32 sharedAddress(const void *p) {
  uint32 at;
  asm("{ .reg .u64 s; cvta.to.shared.u64 s, %1; cvt.u32.u64 %0, s; }" : "=r"(at) : "l"(p));
  return at;
}
#endif

#if defined(NVIDIA_GPU) && defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define OF_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define OF_8(d, i) OF_4(d, i), OF_4(d, i + 4)
#define OF_16(d, i) OF_8(d, i), OF_8(d, i + 8)
#define OF_32(d, i) OF_16(d, i), OF_16(d, i + 16)
#define OF_64(d, i) OF_32(d, i), OF_32(d, i + 32)
#define OF_96(d, i) OF_64(d, i), OF_32(d, i + 64)
#define NAMES_4 "%0, %1, %2, %3"
#define NAMES_8 NAMES_4 ", %4, %5, %6, %7"
#define NAMES_16 NAMES_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define NAMES_32 NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64                                                                                  \
  NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
           "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define NAMES_96                                                                                  \
  NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "     \
           "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define MULTIPLY(n, values, names, of, a0, a1, a2, a3, at)                                           \
  template <> __device__ __forceinline__ void warpgroupMultiply<n>(float *d, const uint32 *a, const uint8 *b, int32 q) { \
    asm volatile("{ .reg .pred p; setp.eq.u32 p, 0, 0;\n"                                             \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" names "}, {" a0 ", " a1 ", " a2 ", " a3 "}, " at ", p, 1, 1, 0; }" \
                 : of(d, 0)                                                                           \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(warpgroupTile(b) + 2 * (uint64)q));               \
  }

// warpgroupTile describes a tile to the instruction: its address in 16 bytes, rows that lie
// 8 · 128 bytes apart by eights, and pieces that are exchanged as above.
DEVICE uint64 warpgroupTile(const uint8 *b) {
  return (uint64)(sharedAddress(b) >> 4 & 0x3fffu) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

template <int32 N> __device__ __forceinline__ void warpgroupMultiply(float *d, const uint32 *a, const uint8 *b, int32 q);
MULTIPLY(32, 16, NAMES_16, OF_16, "%16", "%17", "%18", "%19", "%20")
MULTIPLY(64, 32, NAMES_32, OF_32, "%32", "%33", "%34", "%35", "%36")
MULTIPLY(128, 64, NAMES_64, OF_64, "%64", "%65", "%66", "%67", "%68")
MULTIPLY(192, 96, NAMES_96, OF_96, "%96", "%97", "%98", "%99", "%100")
#undef MULTIPLY

DEVICE void warpgroupBegin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void warpgroupEnd() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// warpgroupWait waits, and has the compiler move nothing that reads d before it.
template <int32 values> DEVICE void warpgroupWait(float *d) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
  for (int32 i = 0; i < values; i++) asm volatile("" : "+f"(d[i]));
}
#else
template <int32 N> DEVICE void warpgroupMultiply(float *d, const uint32 *a, const uint8 *b, int32 q) {
  const int32 g = (int32)laneIndex() / 4, t = (int32)laneIndex() % 4;
#pragma unroll
  for (int32 j = 0; j < N / 8; j++) {
    const uint8 *row = b + (8 * j + g) * 128 + 4 * t;
    const uint32 pairs[2] = {*(const uint32 *)(row + (2 * q ^ g) * 16), *(const uint32 *)(row + ((2 * q + 1) ^ g) * 16)};
#if defined(HAS_MULTIPLY_ADD_16X8)
    multiplyAdd16x8(d + 4 * j, a, pairs);
#else // no matrix unit: rows of a come from the lanes that hold them
#pragma unroll
    for (int32 from = 0; from < 4; from++) {
#pragma unroll
      for (int32 half = 0; half < 2; half++) {
#pragma unroll
        for (int32 e = 0; e < 2; e++) {
          const uint32 w = shuffle(pairs[half], (2 * t + e) * 4 + from);
#pragma unroll
          for (int32 r = 0; r < 2; r++) {
            const uint32 v = shuffle(a[2 * half + r], g * 4 + from);
            float &sum = d[4 * j + 2 * r + e];
            sum = fusedMultiplyAdd(floatOfBits(v << 16), floatOfBits(w << 16), sum);
            sum = fusedMultiplyAdd(floatOfBits(v & 0xffff0000u), floatOfBits(w & 0xffff0000u), sum);
          }
        }
      }
    }
#endif
  }
}
DEVICE void warpgroupBegin() {}
DEVICE void warpgroupEnd() {}
template <int32 values> DEVICE void warpgroupWait(float *) {}
#endif

#if defined(NVIDIA_GPU) && __CUDA_ARCH__ >= 900
DEVICE void tilesInit(uint64 *arrivals, int32 n) {
  if (threadIdx.x == 0) {
    for (int32 i = 0; i < n; i++) asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(sharedAddress(arrivals + i)) : "memory");
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); // what threads did themselves where tiles will come
}
DEVICE void tilesEnd(uint64 *arrivals, int32 n) {
  if (threadIdx.x == 0) {
    for (int32 i = 0; i < n; i++) asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(sharedAddress(arrivals + i)) : "memory");
  }
}
DEVICE void tilesExpect(uint64 *arrival, int32 bytes) {
  if (threadIdx.x == 0) asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sharedAddress(arrival)), "r"(bytes) : "memory");
}
DEVICE void tilesFetch(uint64 *arrival, uint8 *to, const uint8 *from, int32 bytes) {
  if (threadIdx.x == 0) {
    asm volatile("{ .reg .u64 g; cvta.to.global.u64 g, %1; cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [g], %2, [%3]; }" ::"r"(sharedAddress(to)), "l"(from), "r"(bytes), "r"(sharedAddress(arrival))
                 : "memory");
  }
}
DEVICE void tilesAwait(uint64 *arrival, uint32 parity) {
  asm volatile("{ .reg .pred p;\nwait: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@!p bra wait; }" ::"r"(sharedAddress(arrival)), "r"(parity) : "memory");
}
#else
DEVICE void tilesInit(uint64 *, int32) {}
DEVICE void tilesEnd(uint64 *, int32) {}
DEVICE void tilesExpect(uint64 *, int32) {}
DEVICE void tilesFetch(uint64 *, uint8 *to, const uint8 *from, int32 bytes) {
  for (int32 at = (int32)threadIdx.x * 16; at < bytes; at += (int32)waveSize * 16) *(Uint32x4 *)(to + at) = *(const Uint32x4 *)(from + at);
}
DEVICE void tilesAwait(uint64 *, uint32) {}
#endif

// copyAsync copies n bytes, 4, 8 or 16 and aligned to that, from global to shared memory, of
// which it takes a pointer or, so that it is computed once, the sharedPlace that it points to. The
// copies before a copyAsyncEnd are a group. copyAsyncWait<k> waits until all but the last k
// groups of this thread have been copied, for itself.
#if defined(NVIDIA_GPU) && __CUDA_ARCH__ >= 800
typedef uint32 sharedPlace;
DEVICE sharedPlace sharedPlaceOf(const uint8 *p) { return sharedAddress(p); }
template <int32 n> DEVICE void copyAsync(sharedPlace at, const uint8 *from) {
  if constexpr (n == 16) {
    asm volatile("{ .reg .u64 g; cvta.to.global.u64 g, %1; cp.async.cg.shared.global [%0], [g], 16; }" ::"r"(at), "l"(from) : "memory");
  } else {
    asm volatile("{ .reg .u64 g; cvta.to.global.u64 g, %1; cp.async.ca.shared.global [%0], [g], %2; }" ::"r"(at), "l"(from), "n"(n) : "memory");
  }
}
template <int32 n> DEVICE void copyAsync(uint8 *to, const uint8 *from) { copyAsync<n>(sharedAddress(to), from); }
DEVICE void copyAsyncEnd() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int32 k> DEVICE void copyAsyncWait() { asm volatile("cp.async.wait_group %0;" ::"n"(k) : "memory"); }
#else
typedef uint8 *sharedPlace;
DEVICE sharedPlace sharedPlaceOf(uint8 *p) { return p; }
template <int32 n> DEVICE void copyAsync(uint8 *to, const uint8 *from) {
#pragma unroll
  for (int32 i = 0; i < n; i += 4) *(uint32 *)(to + i) = *(const uint32 *)(from + i);
}
DEVICE void copyAsyncEnd() {}
template <int32 k> DEVICE void copyAsyncWait() {}
#endif

// takeBytes returns four of the bytes of low, 0 … 3, and of high, 4 … 7: byte i is that which
// hexadecimal digit i of which says, from the lowest.
DEVICE uint32 takeBytes(uint32 low, uint32 high, uint32 which) {
#if defined(NVIDIA_GPU)
  uint32 bytes;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(low), "r"(high), "r"(which));
  return bytes;
#else
  const uint64 both = (uint64)high << 32 | low;
  uint32 bytes = 0;
  for (int32 i = 0; i < 4; i++) bytes |= (uint32)(both >> 8 * (which >> 4 * i & 7u) & 0xffu) << 8 * i;
  return bytes;
#endif
}

// scaleBF16 multiplies two bfloat16 by one, given twice, each rounded to nearest even.
#if defined(NVIDIA_GPU) && __CUDA_ARCH__ >= 900
DEVICE uint32 scaleBF16(uint32 pair, uint32 by) {
  uint32 product;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(product) : "r"(pair), "r"(by));
  return product;
}
#else
DEVICE uint32 scaleBF16(uint32 pair, uint32 by) {
  const float factor = floatOfBits(by << 16);
  return bf16OfFloat(floatOfBits(pair << 16) * factor) | (uint32)bf16OfFloat(floatOfBits(pair & 0xffff0000u) * factor) << 16;
}
#endif
#endif

#endif // DH_WARPGROUP_H
