#ifndef DH_ATTENTION_H
#define DH_ATTENTION_H

// Attention on matrix units. A wave multiplies 16 queries with 16 keys, and what it makes of
// these scores with the values of the keys, of up to 128 columns:
//
//	multiplyScores(s, r, high, low, keys)  s + r += queries · keysᵀ, for a piece of columns
//	Weights w = weightsOf(s)               two bfloat16 of each, for all that need it
//	multiplyValues(d, shrink, w, pairs)    d = d · shrink + weights · values, for valueTiles tiles
//
// High and low are the two parts of the queries, keys are as pieces are, and a lane holds
//
//	s[i]       key scoreKey(i), query laneQuery(slotOf(i))     i < Piece::values
//	pairs[n]   values valueKey(0), valueKey(1); 2, 3; …        of valueKeys keys, for tile n
//	d[n][i]    query laneQuery(slotOf(i)) of tile n            i < sumValues
//
// The columns of tile j < 8 of chunk c < sumChunks are 64 · c + 8 · g + j, for several g: a
// lane reads those of g = valueGroup() and has sums of g = sumGroup(i). So the eight tiles are
// neighboring columns.
//
// splitDown makes the two parts of a float so that both have its sign, and neither is 0 if the
// float is not (but for numbers below 2^−117): then multiplied with an infinity they give
// that, as the float does. They leave out up to |x| · 2^−16.
#if defined(HAS_MULTIPLY_ADD_16X8)
#define HAS_MATRIX_UNITS 1
constexpr int32 laneQueries = 2, valueKeys = 4, sumValues = 4, sumChunks = 2;
DEVICE int32 laneQuery(int32 n) { return (int32)laneIndex() / 4 + 8 * n; }
DEVICE int32 scoreKey(int32 i) { return pieceDColumn(i); }
DEVICE int32 valueKey(int32 n) { return (int32)laneIndex() % 4 * 2 + n % 2 + n / 2 * 8; }
DEVICE int32 valueGroup() { return (int32)laneIndex() / 4; }
DEVICE int32 sumGroup(int32 i) { return (int32)laneIndex() % 4 * 2 + i % 2; }
// Lanes of the same queries differ in these bits.
constexpr uint32 firstQueryLane = 2, lastQueryLane = 1;
#elif defined(HAS_MULTIPLY_ADD_16X16) || defined(__gfx1200__) || defined(__gfx1201__) || defined(__GFX11__)
#define HAS_MATRIX_UNITS 1
constexpr int32 laneQueries = 1, sumValues = Piece::values, sumChunks = 1;
DEVICE int32 laneQuery(int32) { return pieceDColumn(0); }
DEVICE int32 scoreKey(int32 i) { return pieceDRow(i); }
DEVICE int32 valueGroup() { return pieceRow(0); }
DEVICE int32 sumGroup(int32 i) { return pieceDRow(i); }
constexpr uint32 firstQueryLane = waveSize / 2, lastQueryLane = 16;
#if defined(__GFX11__) // a lane multiplies all keys: those of its own scores, and those of the other half's
constexpr int32 valueKeys = 16;
DEVICE int32 valueKey(int32 n) { return n % 8 * 2 + n / 8; }
#else
constexpr int32 valueKeys = Piece::values;
DEVICE int32 valueKey(int32 n) { return pieceDRow(n); }
#endif
#endif

#if defined(HAS_MATRIX_UNITS)
// Tiles that are multiplied together, as an instruction waits for the one before that adds to
// the same sums.
constexpr int32 valueTiles = 4;

DEVICE int32 slotOf(int32 i) { return i / 2 % laneQueries; }

// lowerHalves and upperHalves are pairs of two pairs. spreadBytes returns the two bytes of half j
// of four, each in the upper half of a half. timesPowerBF16 multiplies two bfloat16 by 2^n,
// subnormals too, where that is exact.
#if defined(NVIDIA_GPU)
DEVICE uint32 spreadBytes(uint32 bytes, int32 j) { return takeBytes(bytes, 0, j == 0 ? 0x1404u : 0x3424u); }
template <int32 n> DEVICE uint32 timesPowerBF16(uint32 pair) {
  uint32 product;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(pair), "r"((127 + n) * (0x10001u << 7)), "r"(0x80008000u)); // −0 keeps a sign
  return product;
}
DEVICE uint32 lowerHalves(uint32 a, uint32 b) { return takeBytes(a, b, 0x5410u); }
DEVICE uint32 upperHalves(uint32 a, uint32 b) { return takeBytes(a, b, 0x7632u); }
#else
DEVICE uint32 spreadBytes(uint32 bytes, int32 j) { return (bytes >> 16 * j & 0xffu) << 8 | (bytes >> 16 * j & 0xff00u) << 16; }
template <int32 n> DEVICE uint32 timesPowerBF16(uint32 pair) {
  const float factor = floatOfBits((127 + n) << 23);
  return bitsOfFloat(floatOfBits(pair << 16) * factor) >> 16 | (bitsOfFloat(floatOfBits(pair & 0xffff0000u) * factor) & 0xffff0000u);
}
DEVICE uint32 lowerHalves(uint32 a, uint32 b) { return (a & 0xffffu) | b << 16; }
DEVICE uint32 upperHalves(uint32 a, uint32 b) { return a >> 16 | (b & 0xffff0000u); }
#endif

struct Weights {
  static constexpr int32 pairs = laneQueries * valueKeys / 2;
  uint32 high[pairs], low[pairs];
};

DEVICE void splitDown(uint32 *high, uint32 *low, float first, float second) {
  const float values[2] = {first, second};
  uint32 kept[2];
  float rests[2];
#pragma unroll
  for (int32 i = 0; i < 2; i++) {
    kept[i] = bitsOfFloat(values[i]) - (values[i] != 0) & 0xffff0000u;
    rests[i] = values[i] - floatOfBits(kept[i]);
  }
  *high = upperHalves(kept[0], kept[1]);
#if defined(HAS_PACK_BF16)
  *low = packBF16(rests[0], rests[1]);
#else
  uint32 rounded[2];
#pragma unroll
  for (int32 i = 0; i < 2; i++) rounded[i] = rests[i] == rests[i] ? bitsOfFloat(rests[i]) + 0x8000u : 0x7fc00000u;
  *low = upperHalves(rounded[0], rounded[1]);
#endif
}

DEVICE Weights weightsOf(const float *s) {
  Weights w;
#pragma unroll
  for (int32 m = 0; m < Piece::values / 2; m++) splitDown(&w.high[m], &w.low[m], s[2 * m], s[2 * m + 1]);
#if defined(__GFX11__)
  const bool upper = laneIndex() / 16;
#pragma unroll
  for (int32 m = 0; m < Piece::values / 2; m++) {
    const uint32 high = w.high[m], low = w.low[m], others = swapLanes(high, 16), othersLow = swapLanes(low, 16);
    w.high[m] = upper ? others : high, w.high[m + 4] = upper ? high : others;
    w.low[m] = upper ? othersLow : low, w.low[m + 4] = upper ? low : othersLow;
  }
#endif
  return w;
}

#if defined(HAS_MULTIPLY_ADD_16X8)
// Two sums, as an instruction waits for the one before that adds to the same.
DEVICE void multiplyScores(float *s, float *r, const Piece &high, const Piece &low, const Piece &keys) {
#pragma unroll
  for (int32 k = 0; k < 8; k += 2) {
#pragma unroll
    for (int32 part = 0; part < 2; part++) {
      const Piece &a = part == 0 ? low : high;
      const uint32 as[4] = {a.pairs[0][k], a.pairs[1][k], a.pairs[0][k + 1], a.pairs[1][k + 1]};
#pragma unroll
      for (int32 n = 0; n < 2; n++) {
        const uint32 bs[2] = {keys.pairs[n][k], keys.pairs[n][k + 1]};
        multiplyAdd16x8((part == 0 ? r : s) + 4 * n, as, bs);
      }
    }
  }
}

DEVICE void multiplyValues(float (*d)[sumValues], const float *shrink, const Weights &w, const uint32 (*pairs)[valueKeys / 2]) {
#pragma unroll
  for (int32 n = 0; n < valueTiles; n++) {
#pragma unroll
    for (int32 i = 0; i < sumValues; i++) d[n][i] *= shrink[slotOf(i)];
  }
#pragma unroll
  for (int32 n = 0; n < valueTiles; n++) multiplyAdd16x8(d[n], w.low, pairs[n]);
#pragma unroll
  for (int32 n = 0; n < valueTiles; n++) multiplyAdd16x8(d[n], w.high, pairs[n]);
}
#else
DEVICE void multiplyScores(float *s, float *, const Piece &high, const Piece &low, const Piece &keys) { multiplyPieces(s, keys, high, low); }

#if defined(HAS_MULTIPLY_ADD_16X16)
#define MULTIPLY_ADD(a, b, d) __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, b, d, 0, 0, 0)
#elif defined(__GFX11__)
#define MULTIPLY_ADD(a, b, d) __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(a, b, d)
#else
#define MULTIPLY_ADD(a, b, d) __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12(a, b, d)
#endif
DEVICE void multiplyValues(float (*d)[sumValues], const float *shrink, const Weights &w, const uint32 (*pairs)[valueKeys / 2]) {
  Vector<float, sumValues> sums[valueTiles];
  Vector<short, valueKeys> values[valueTiles], low, high;
  __builtin_memcpy(&low, w.low, sizeof(low));
  __builtin_memcpy(&high, w.high, sizeof(high));
#pragma unroll
  for (int32 n = 0; n < valueTiles; n++) {
#pragma unroll
    for (int32 i = 0; i < sumValues; i++) sums[n][i] = d[n][i] * shrink[0];
    __builtin_memcpy(&values[n], pairs[n], sizeof(low));
    sums[n] = MULTIPLY_ADD(values[n], low, sums[n]);
  }
#pragma unroll
  for (int32 n = 0; n < valueTiles; n++) {
    sums[n] = MULTIPLY_ADD(values[n], high, sums[n]);
#pragma unroll
    for (int32 i = 0; i < sumValues; i++) d[n][i] = sums[n][i];
  }
}
#undef MULTIPLY_ADD
#endif
#endif

#endif // DH_ATTENTION_H
