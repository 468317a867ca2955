// The instructions of GPUs that no compiler for the host has: products of matrices by a
// whole wave, and moves between its lanes. What lies in which lane is what the vendors
// document, and nothing else, so that a kernel that has it otherwise goes wrong here:
//
//	NVIDIA, sm_80         PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"
//	AMD CDNA 2 and 3      AMD Matrix Instruction Calculator, v_mfma_f32_16x16x16bf16_1k; IREE,
//	                      the layouts of MFMA_F32_16x16x16_BF16
//	AMD CDNA 4            LLVM, the types of __builtin_amdgcn_mfma_f32_16x16x32_bf16 and
//	                      __builtin_amdgcn_mfma_scale_f32_16x16x128_f8f6f4, and its operands cbsz,
//	                      blgp and op_sel; Triton, the layouts of both instructions' operands;
//	                      ROCm's composable_kernel, the maps of registers in its test of scaled
//	                      MFMA, of values and of scales
//	AMD RDNA 3            the calculator, v_wmma_f32_16x16x16_bf16; GPUOpen, "How to accelerate
//	                      AI applications on RDNA 3 using WMMA"
//	AMD RDNA 4            IREE, the layouts of WMMAR4_F32_16x16x16_BF16, and which k the manual
//	                      has in which lane (also iree-org/wave, pull request 306); rows of d:
//	                      issue 6025 of ROCm's build repository
//	moves between lanes   LLVM, "Syntax of AMDGPU Instruction Modifiers", dpp16_ctrl
//
// Sums are float32, of one column of a after the other. What a GPU makes of a sum within
// an instruction is its own affair.

#ifndef EMULATOR_INSTRUCTIONS_H
#define EMULATOR_INSTRUCTIONS_H

#include <string.h>

static inline void emulator_fault(const char *what, int line) { emulator_bound->fault(emulator_self(), what, line); }

// d[16][n] = a[16][columns] · b[columns][n] + c[16][n]: a layout tells in which lane the elements of a
// and b lie, and the how many-th bfloat16 of the lane's registers they are, the first in the
// lower half of the first register; and of which row and column a lane's d and c are.
struct emulator_place {
  unsigned lane, at;
};

struct emulator_sm80 {  // two rows of 8 lie 8 apart, and so do columns
  enum { wave = 32, columns = 16, of_a = 8, of_b = 4, of_d = 4 };
  static emulator_place a(unsigned i, unsigned k) { return {i % 8 * 4 + k % 8 / 2, i / 8 * 2 + k / 8 * 4 + k % 2}; }
  static emulator_place b(unsigned k, unsigned j) { return {j * 4 + k % 8 / 2, k / 8 * 2 + k % 2}; }
  static unsigned row(unsigned lane, unsigned value) { return lane / 4 + value / 2 * 8; }
  static unsigned column(unsigned lane, unsigned value) { return lane % 4 * 2 + value % 2; }
};

struct emulator_cdna {  // 16 lanes for every four k, and for every four rows of d
  enum { wave = 64, columns = 16, of_a = 4, of_b = 4, of_d = 4 };
  static emulator_place a(unsigned i, unsigned k) { return {k / 4 * 16 + i, k % 4}; }
  static emulator_place b(unsigned k, unsigned j) { return a(j, k); }
  static unsigned row(unsigned lane, unsigned value) { return lane / 16 * 4 + value; }
  static unsigned column(unsigned lane, unsigned) { return lane % 16; }
};

struct emulator_cdna4 : emulator_cdna {  // the same, for every eight k
  enum { columns = 32, of_a = 8, of_b = 8 };
  static emulator_place a(unsigned i, unsigned k) { return {k / 8 * 16 + i, k % 8}; }
  static emulator_place b(unsigned k, unsigned j) { return a(j, k); }
};

struct emulator_rdna3 {  // lanes 16 to 31 hold what lanes 0 to 15 hold; rows of d alternate
  enum { wave = 32, columns = 16, of_a = 16, of_b = 16, of_d = 8 };
  static emulator_place a(unsigned i, unsigned k) { return {i, k}; }
  static emulator_place b(unsigned k, unsigned j) { return {j, k}; }
  static unsigned row(unsigned lane, unsigned value) { return value * 2 + lane / 16; }
  static unsigned column(unsigned lane, unsigned) { return lane % 16; }
};

struct emulator_rdna4 {  // k alternates between the halves of the wave, four at a time
  enum { wave = 32, columns = 16, of_a = 8, of_b = 8, of_d = 8 };
  static emulator_place a(unsigned i, unsigned k) { return {k / 4 % 2 * 16 + i, k / 8 * 4 + k % 4}; }
  static emulator_place b(unsigned k, unsigned j) { return a(j, k); }
  static unsigned row(unsigned lane, unsigned value) { return lane / 16 * 8 + value; }
  static unsigned column(unsigned lane, unsigned) { return lane % 16; }
};

static inline float emulator_bf16(uint16_t half) {
  uint32_t bits = (uint32_t)half << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

static inline float emulator_f16(uint16_t half) {  // subnormals are 2^-24 each
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  const float size = exponent == 31  ? (fraction ? __builtin_nanf("") : __builtin_inff())
                     : exponent == 0 ? __builtin_ldexpf((float)fraction, -24)
                                     : __builtin_ldexpf((float)(1024 + fraction), exponent - 25);
  return half >> 15 ? -size : size;
}

struct emulator_operands {
  const uint16_t *a, *b;
  const float *c;
  float *d;
  int line;
};

// emulator_multiply_all computes d of all lanes.
template <class Layout, float (*value)(uint16_t)> static void emulator_multiply_all(void *const *lanes) {
  enum { wave = Layout::wave, columns = Layout::columns, n = wave * Layout::of_d / 16 };
  const auto of = [lanes](unsigned lane) -> const emulator_operands & { return *(const emulator_operands *)lanes[lane]; };
  if (Layout::of_a == 16) {
    for (unsigned lane = 0; lane < 16; lane++) {
      const emulator_operands &own = of(lane), &copy = of(lane + 16);
      if (memcmp(own.a, copy.a, 32) || memcmp(own.b, copy.b, 32)) emulator_fault("lanes 16 to 31 of a WMMA do not hold what lanes 0 to 15 hold", own.line);
    }
  }
  typedef float vector __attribute__((vector_size(32)));
  float a[16][columns], d[16][n];
  alignas(32) float b[columns][n];
  for (unsigned k = 0; k < columns; k++) {
#pragma GCC unroll 16
    for (unsigned i = 0; i < 16; i++) {
      const emulator_place at = Layout::a(i, k);
      a[i][k] = value(of(at.lane).a[at.at]);
    }
#pragma GCC unroll 16
    for (unsigned j = 0; j < n; j++) {
      const emulator_place at = Layout::b(k, j);
      b[k][j] = value(of(at.lane).b[at.at]);
    }
  }
  for (unsigned lane = 0; lane < wave; lane++)
#pragma GCC unroll 8
    for (unsigned v = 0; v < Layout::of_d; v++) d[Layout::row(lane, v)][Layout::column(lane, v)] = of(lane).c[v];
  for (unsigned i = 0; i < 16; i += 4) {  // four rows at a time, each k by k
    vector sums[4][n / 8];
    memcpy(sums, d[i], sizeof sums);
    for (unsigned k = 0; k < columns; k++)
#pragma GCC unroll 4
      for (unsigned r = 0; r < 4; r++)
#pragma GCC unroll 2
        for (unsigned q = 0; q < n / 8; q++) sums[r][q] += a[i + r][k] * *(const vector *)&b[k][8 * q];
    memcpy(d[i], sums, sizeof sums);
  }
  for (unsigned lane = 0; lane < wave; lane++)
#pragma GCC unroll 8
    for (unsigned v = 0; v < Layout::of_d; v++) of(lane).d[v] = d[Layout::row(lane, v)][Layout::column(lane, v)];
}

// emulator_multiply sets d, which may be c.
template <class Layout, float (*value)(uint16_t) = emulator_bf16>
static inline void emulator_multiply(float *d, const uint16_t *a, const uint16_t *b, const float *c, int line) {
  emulator_operands own = {a, b, c, d, line};
  emulator_together(&own, emulator_multiply_all<Layout, value>, line);
}

static inline void emulator_mma_m16n8k16(float *d, const unsigned *a, const unsigned *b, int line) {
  uint16_t as[8], bs[4];
  memcpy(as, a, sizeof as);
  memcpy(bs, b, sizeof bs);
  emulator_multiply<emulator_sm80>(d, as, bs, d, line);
}

static inline void emulator_mma_m16n8k16_f16(float *d, const unsigned *a, const unsigned *b, int line) {
  uint16_t as[8], bs[4];
  memcpy(as, a, sizeof as);
  memcpy(bs, b, sizeof bs);
  emulator_multiply<emulator_sm80, emulator_f16>(d, as, bs, d, line);
}

// emulator_vector stands for a vector type of clang.
template <class T, int n> struct emulator_vector {
  T at[n];
  T &operator[](int i) { return at[i]; }
};

template <class Layout>
static inline emulator_vector<float, Layout::of_d> emulator_amd(const emulator_vector<short, Layout::of_a> &a, const emulator_vector<short, Layout::of_b> &b,
                                                                const emulator_vector<float, Layout::of_d> &c, int line) {
  emulator_vector<float, Layout::of_d> d;
  emulator_multiply<Layout>(d.at, (const uint16_t *)a.at, (const uint16_t *)b.at, c.at, line);
  return d;
}
// Macros, so that the emulator names the line of a divergent one.
#define __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, b, c, cbsz, abid, blgp) emulator_amd<emulator_cdna>(a, b, c, __LINE__)
#define __builtin_amdgcn_mfma_f32_16x16x32_bf16(a, b, c, cbsz, abid, blgp) emulator_amd<emulator_cdna4>(a, b, c, __LINE__)
#define __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(a, b, c) emulator_amd<emulator_rdna3>(a, b, c, __LINE__)
#define __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12(a, b, c) emulator_amd<emulator_rdna4>(a, b, c, __LINE__)

// Scaled MFMA: d[16][16] = Σ of the four blocks of 32 k, 2^(s[i] − 127) · 2^(t[j] − 127) · a[16][32] ·
// b[32][16], + c[16][16]. a and b are e4m3; a lane has sixteen k of the first 64 and sixteen of
// the last 64. Scales are e8m0, 255 is NaN: a lane has that of one row for one block, which is
// not the scale of its own k. Sums are float64, block by block, rounded once.
struct emulator_scaled : emulator_cdna {
  enum { columns = 128, block = 32 };
  static emulator_place a(unsigned i, unsigned k) { return {k % 64 / 16 * 16 + i, k / 64 * 16 + k % 16}; }
  static unsigned scale(unsigned i, unsigned k) { return k / block * 16 + i; }  // the lane
};

struct emulator_scaled_operands {
  const uint8_t *a, *b;  // 32 of each
  const float *c;
  float *d;
  uint8_t a_scale, b_scale;
};

static inline double emulator_e4m3(uint8_t code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  const double magnitude = (code & 0x7f) == 0x7f ? __builtin_nan("") : exponent ? __builtin_ldexp(8 + fraction, exponent - 10) : __builtin_ldexp(fraction, -9);
  return code & 0x80 ? -magnitude : magnitude;
}

static void emulator_multiply_scaled_all(void *const *lanes) {
  typedef emulator_scaled layout;
  const auto of = [lanes](unsigned lane) -> const emulator_scaled_operands & { return *(const emulator_scaled_operands *)lanes[lane]; };
  double a[16][layout::columns], b[16][layout::columns];
  float d[layout::wave][layout::of_d];
  for (unsigned i = 0; i < 16; i++)
    for (unsigned k = 0; k < layout::columns; k++) {
      const emulator_place at = layout::a(i, k);
      a[i][k] = emulator_e4m3(of(at.lane).a[at.at]), b[i][k] = emulator_e4m3(of(at.lane).b[at.at]);
    }
  for (unsigned lane = 0; lane < layout::wave; lane++)
    for (unsigned v = 0; v < layout::of_d; v++) {
      const unsigned i = layout::row(lane, v), j = layout::column(lane, v);
      double sum = of(lane).c[v];
      for (unsigned k = 0; k < layout::columns; k += layout::block) {
        const uint8_t s = of(layout::scale(i, k)).a_scale, t = of(layout::scale(j, k)).b_scale;
        double products = 0;
        for (unsigned n = k; n < k + layout::block; n++) products += a[i][n] * b[j][n];
        sum += s == 255 || t == 255 ? __builtin_nan("") : __builtin_ldexp(products, s + t - 254);
      }
      d[lane][v] = (float)sum;
    }
  for (unsigned lane = 0; lane < layout::wave; lane++) memcpy(of(lane).d, d[lane], sizeof d[lane]);
}

#define __builtin_amdgcn_mfma_scale_f32_16x16x128_f8f6f4(a, b, c, cbsz, blgp, a_byte, a_scale, b_byte, b_scale) \
  emulator_multiply_scaled(a, b, c, cbsz, blgp, (unsigned)(a_scale) >> 8 * (a_byte), (unsigned)(b_scale) >> 8 * (b_byte), __LINE__)
static inline emulator_vector<float, 4> emulator_multiply_scaled(const emulator_vector<int, 8> &a, const emulator_vector<int, 8> &b, const emulator_vector<float, 4> &c,
                                                                 int cbsz, int blgp, unsigned a_scale, unsigned b_scale, int line) {
  if (cbsz || blgp) emulator_fault("a scaled MFMA of a format that is not emulated", line);
  emulator_vector<float, 4> d;
  emulator_scaled_operands own = {(const uint8_t *)a.at, (const uint8_t *)b.at, c.at, d.at, (uint8_t)a_scale, (uint8_t)b_scale};
  emulator_together(&own, emulator_multiply_scaled_all, line);
  return d;
}

// DPP: of the controls row_share, by which all lanes of a row of 16 read one lane of it.
#define __builtin_amdgcn_update_dpp(old, source, control, rows, banks, bound) emulator_dpp(source, control, rows, banks, __LINE__)
static inline int emulator_dpp(int source, int control, int rows, int banks, int line) {
  if (control < 0x150 || control > 0x15f || rows != 0xf || banks != 0xf) emulator_fault("a DPP control that is not emulated", line);
  return (int)emulator_gather((unsigned)source, line)[emulator_lane() / 16 * 16 + control % 16];
}

#endif
