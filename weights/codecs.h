// The formats of weights as products read them: in aligned accesses of 16 bytes, four
// columns at a time.

// A codec decodes four columns of one access of 16 bytes, the q-th four, without their
// scale. nan collects whether any code was NaN, so that not every value must be tested.
// scale reads the scale of column c; scaleBits reads it as it is stored, aligned to its
// size, and scaleOf decodes that, so that nobody waits for it where it is read.
struct codecF32 {
  static constexpr int32 columns = 4, scaleColumns = 4; // of an access
  static constexpr bool scaled = false, blocks = false;
  DEVICE void decode(float *v, const Uint32x4 &w, int32, uint32 &) {
#pragma unroll
    for (int32 i = 0; i < 4; i++) v[i] = floatOfBits(w.at[i]);
  }
  DEVICE float scale(const uint8 *, int32, uint32) { return 1; }
  DEVICE uint32 scaleBits(const uint8 *, int32, uint32) { return 0; }
  DEVICE float scaleOf(uint32, int32) { return 1; }
  DEVICE bool isNaN(uint32) { return false; }
  DEVICE float total(const Segment *, float sum) { return sum; } // what a scale of the matrix makes of a row's sum
};

struct codecF16 : codecF32 {
  static constexpr int32 columns = 8, scaleColumns = 8;
  DEVICE void decode(float *v, const Uint32x4 &w, int32 q, uint32 &) {
#pragma unroll
    for (int32 i = 0; i < 4; i++) v[i] = floatOfF16(w.at[2 * q + i / 2] >> 16 * (i % 2) & 0xffffu);
  }
};

struct codecBF16 : codecF32 {
  static constexpr int32 columns = 8, scaleColumns = 8;
  DEVICE void decode(float *v, const Uint32x4 &w, int32 q, uint32 &) {
#pragma unroll
    for (int32 i = 0; i < 4; i += 2) {
      v[i] = floatOfBits(w.at[2 * q + i / 2] << 16);
      v[i + 1] = floatOfBits(w.at[2 * q + i / 2] & 0xffff0000u);
    }
  }
};

// f16OfE4M3 makes two pairs of float16 of four codes, exactly.
#if defined(NVIDIA_GPU) && __CUDA_ARCH__ >= 890
DEVICE void f16OfE4M3(uint32 *pairs, uint32 codes) {
  asm("{ .reg .b16 l, h; mov.b32 {l, h}, %2; cvt.rn.f16x2.e4m3x2 %0, l; cvt.rn.f16x2.e4m3x2 %1, h; }"
      : "=r"(pairs[0]), "=r"(pairs[1]) : "r"(codes));
}
#else
DEVICE void f16OfE4M3(uint32 *pairs, uint32 codes) {
#pragma unroll
  for (int32 i = 0; i < 2; i++) pairs[i] = f16OfFloat(floatOfE4M3(codes >> 16 * i & 0xffu)) | f16OfFloat(floatOfE4M3(codes >> (16 * i + 8) & 0xffu)) << 16;
}
#endif

#if defined(NVIDIA_GPU) && __CUDA_ARCH__ >= 890
// codecE4M3 has the GPU make float16 of two codes, which is exact, and keeps NaN.
struct codecE4M3 {
  static constexpr int32 columns = 16, scaleColumns = 16; // of an access and a scale, at least
  static constexpr bool scaled = true, blocks = false; // scales of 128 rows
  DEVICE float total(const Segment *, float sum) { return sum; }
  DEVICE void decode(float *v, const Uint32x4 &w, int32 q, uint32 &) {
    uint32 halves[2];
    f16OfE4M3(halves, w.at[q]);
#pragma unroll
    for (int32 i = 0; i < 2; i++) {
      asm("{ .reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
          : "=f"(v[2 * i]), "=f"(v[2 * i + 1]) : "r"(halves[i]));
    }
  }
  DEVICE bool isNaN(uint32) { return false; }
};
#else
// codecE4M3 moves a code to the top, and with its sign copied to where a float32's
// exponent begins; see floatOfE4M3.
struct codecE4M3 {
  static constexpr int32 columns = 16, scaleColumns = 16; // of an access and a scale, at least
  static constexpr bool scaled = true, blocks = false; // scales of 128 rows
  DEVICE float total(const Segment *, float sum) { return sum; }
  DEVICE void decode(float *v, const Uint32x4 &w, int32 q, uint32 &nan) {
#pragma unroll
    for (int32 i = 0; i < 4; i++) {
      const int32 top = (int32)(w.at[q] << (24 - 8 * i));
      v[i] = floatOfBits((uint32)(top >> 4) & 0x87f00000u) * 0x1p120f;
    }
    nan |= (w.at[q] & 0x7f7f7f7fu) + 0x01010101u; // 0x7f carries into the top bit
  }
  DEVICE bool isNaN(uint32 nan) { return nan & 0x80808080u; }
};
#endif

struct codecMXFP8 : codecE4M3 {
  DEVICE uint32 scaleBits(const uint8 *scales, int32, uint32 c) { return scales[c / 32]; }
  DEVICE float scaleOf(uint32 bits, int32) { return floatOfE8M0(bits); }
  DEVICE float scale(const uint8 *scales, int32 format, uint32 c) { return scaleOf(scaleBits(scales, format, c), format); }
};
struct codecFP8 : codecE4M3 { // scales of float32 or, half as wide, bfloat16
  static constexpr bool blocks = true;
  DEVICE uint32 scaleBits(const uint8 *scales, int32 format, uint32 c) {
    return format == FP8F32 ? ((const uint32 *)scales)[c / 128] : ((const uint16 *)scales)[c / 128];
  }
  DEVICE float scaleOf(uint32 bits, int32 format) { return format == FP8F32 ? floatOfBits(bits) : floatOfBF16(bits); }
  DEVICE float scale(const uint8 *scales, int32 format, uint32 c) {
    return format == FP8F32 ? floatOfBits(unaligned32(scales + 4 * (c / 128))) : floatOfBF16(unaligned16(scales + 2 * (c / 128)));
  }
};

struct codecINT8 : codecE4M3 {
  DEVICE void decode(float *v, const Uint32x4 &w, int32 q, uint32 &) {
#pragma unroll
    for (int32 i = 0; i < 4; i++) v[i] = (float)((int32)(w.at[q] << (24 - 8 * i)) >> 24);
  }
  DEVICE bool isNaN(uint32) { return false; }
  DEVICE float scale(const uint8 *scales, int32, uint32 c) { return floatOfBF16(unaligned16(scales + 2 * (c / 32))); }
  DEVICE uint32 scaleBits(const uint8 *scales, int32, uint32 c) { return ((const uint16 *)scales)[c / 32]; }
  DEVICE float scaleOf(uint32 bits, int32) { return floatOfBF16(bits); }
};

// codecMXFP4 and codecNVFP4 move a code of four bits to a float32's top, as floatOfE2M1
// does. An access of NVFP4 has two scales.
struct codecMXFP4 : codecE4M3 {
  static constexpr int32 columns = 32, scaleColumns = 32;
  DEVICE void decode(float *v, const Uint32x4 &w, int32 q, uint32 &) {
#pragma unroll
    for (int32 i = 0; i < 4; i++) v[i] = floatOfE2M1(w.at[q / 2] >> (16 * (q % 2) + 4 * i));
  }
  DEVICE bool isNaN(uint32) { return false; }
  DEVICE uint32 scaleBits(const uint8 *scales, int32, uint32 c) { return scales[c / 32]; }
  DEVICE float scaleOf(uint32 bits, int32) { return floatOfE8M0(bits); }
  DEVICE float scale(const uint8 *scales, int32 format, uint32 c) { return scaleOf(scaleBits(scales, format, c), format); }
};
struct codecNVFP4 : codecMXFP4 {
  static constexpr int32 scaleColumns = 16;
  DEVICE uint32 scaleBits(const uint8 *scales, int32, uint32 c) { return scales[c / 16]; }
  DEVICE float scaleOf(uint32 bits, int32) { return floatOfE4M3(bits); }
  DEVICE float scale(const uint8 *scales, int32 format, uint32 c) { return scaleOf(scaleBits(scales, format, c), format); }
  DEVICE float total(const Segment *s, float sum) { return sum * s->factor / s->divisor; }
};
