#ifndef DH_MATRIX_H
#define DH_MATRIX_H

// multiplyAdd16x8 is d += a · b of one wave of 32: a is 16 × 16 and b 16 × 8 bfloat16,
// d 16 × 8 float32. Lane l, with g = l/4 and t = l%4, holds
//
//	a[0], a[1]   rows g and g+8, columns 2t, 2t+1        two in each, the first in the lower half
//	a[2], a[3]   rows g and g+8, columns 2t+8, 2t+9
//	b[0], b[1]   column g, rows 2t, 2t+1 and 2t+8, 2t+9
//	d[0], d[1]   row g, columns 2t and 2t+1
//	d[2], d[3]   row g+8
//
// multiplyAddF16 is the same of float16.
#if defined(DH_EMULATED) && DH_WAVE == 32 && !defined(__AMDGCN__)
#define HAS_MULTIPLY_ADD_16X8 1
#define multiplyAdd16x8(d, a, b) emulator_mma_m16n8k16(d, a, b, __LINE__)
#define multiplyAddF16(d, a, b) emulator_mma_m16n8k16_f16(d, a, b, __LINE__)
#elif defined(NVIDIA_GPU) && __CUDA_ARCH__ >= 800
#define HAS_MULTIPLY_ADD_16X8 1
DEVICE void multiplyAdd16x8(float *d, const uint32 *a, const uint32 *b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void multiplyAddF16(float *d, const uint32 *a, const uint32 *b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
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
#elif (defined(DH_EMULATED) && DH_WAVE == 64 && !defined(__AMDGCN__)) || defined(__gfx90a__) || defined(__gfx940__) || defined(__gfx941__) || defined(__gfx942__) || defined(__gfx950__)
#define HAS_MULTIPLY_ADD_16X16 1
#define PIECE_ROWS 1
#define PIECE_LANES 4
DEVICE int32 pieceRow(int32) { return (int32)laneIndex() % 16; }
DEVICE int32 pieceLane() { return (int32)laneIndex() / 16; }
DEVICE int32 pieceDRow(int32 i) { return (int32)laneIndex() / 16 * 4 + i; }
DEVICE int32 pieceDColumn(int32) { return (int32)laneIndex() % 16; }
#elif defined(__gfx1200__) || defined(__gfx1201__)
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
#elif defined(HAS_MULTIPLY_ADD_16X16) || defined(__gfx1200__) || defined(__gfx1201__) || defined(__GFX11__)
// A unit takes pieceTaken columns of a lane, as values of type taken.
#if defined(__gfx950__)
constexpr int32 pieceTaken = 8;
#define MULTIPLY_ADD(a, b, d) __builtin_amdgcn_mfma_f32_16x16x32_bf16(a, b, d, 0, 0, 0)
#elif defined(HAS_MULTIPLY_ADD_16X16)
constexpr int32 pieceTaken = 4;
#define MULTIPLY_ADD(a, b, d) __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, b, d, 0, 0, 0)
#elif defined(__gfx1200__) || defined(__gfx1201__)
constexpr int32 pieceTaken = 8;
#define MULTIPLY_ADD(a, b, d) __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12(a, b, d)
#else
constexpr int32 pieceTaken = 16;
#define MULTIPLY_ADD(a, b, d) __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(a, b, d)
#endif
#if defined(DH_EMULATED)
template <class T, int32 n> using Vector = emulator_vector<T, n>;
#else
template <class T, int32 n> using Vector = T __attribute__((ext_vector_type(n)));
#endif
#if defined(__gfx950__) && !defined(DH_EMULATED)
typedef __bf16 taken;
#else
typedef short taken;
#endif
DEVICE void multiplyPieces(float *d, const Piece &a, const Piece &high, const Piece &low) {
  Vector<float, Piece::values> sums;
#pragma unroll
  for (int32 i = 0; i < Piece::values; i++) sums[i] = d[i];
#pragma unroll
  for (int32 part = 0; part < 2; part++) {
    const Piece &b = part == 0 ? low : high;
#pragma unroll
    for (int32 k = 0; k < 8; k += pieceTaken / 2) {
      Vector<taken, pieceTaken> as, bs;
      __builtin_memcpy(&as, a.pairs[0] + k, sizeof(as));
      __builtin_memcpy(&bs, b.pairs[0] + k, sizeof(bs));
      sums = MULTIPLY_ADD(as, bs, sums);
    }
  }
#pragma unroll
  for (int32 i = 0; i < Piece::values; i++) d[i] = sums[i];
}
#undef MULTIPLY_ADD
#if defined(__gfx950__)
// multiplyAddScaled is d += a · bᵀ of one wave: a and b are 16 rows of 128 MXFP8, d is 16 × 16
// float32. Lane l, with g = l/16, holds
//
//	a[0], b[0]   row l%16, columns 16g … 16g+15
//	a[1], b[1]   columns 64+16g … 64+16g+15
//	scales       row l%16, of columns 32g … 32g+31, which mostly are not its own
//	d[i]         row 4g+i of a, row l%16 of b
#define HAS_MULTIPLY_ADD_SCALED 1
DEVICE void multiplyAddScaled(float *d, const Uint32x4 *a, const Uint32x4 *b, uint32 aScale, uint32 bScale) {
  Vector<int32, 8> as, bs;
  __builtin_memcpy(&as, a, sizeof(as));
  __builtin_memcpy(&bs, b, sizeof(bs));
  Vector<float, 4> sums;
#pragma unroll
  for (int32 i = 0; i < 4; i++) sums[i] = d[i];
  sums = __builtin_amdgcn_mfma_scale_f32_16x16x128_f8f6f4(as, bs, sums, 0, 0, 0, (int32)aScale, 0, (int32)bScale);
#pragma unroll
  for (int32 i = 0; i < 4; i++) d[i] = sums[i];
}
#endif
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
    keepOrder();
    uint32 pair = a.pairs[0][k];
#if defined(AMD_GPU)
    asm volatile("" : "+v"(pair)); // what is read of it would be kept for all b that are multiplied with a
#endif
    const uint32 h = high.pairs[0][k], l = low.pairs[0][k];
    multiplyPair<0>(d, pair, floatOfBits(h << 16) + floatOfBits(l << 16), floatOfBits(h & 0xffff0000u) + floatOfBits(l & 0xffff0000u));
  }
}
#endif

#endif // DH_MATRIX_H
