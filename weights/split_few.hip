// Rows of x as two float16 or bfloat16 each, high + low, in the order in which few.h multiplies
// them. Those of float16 are of x times a power of two that moves the row's largest to 2^14 or
// more, so that none overflows and the small ones lose little. Several blocks share a row, and
// each finds its largest. The twin is splitFewTwin of this package.

struct splitFewArgs {
  const float *X;
  uint8 *Split;
  int32 Rows, Cols;
  int64 F16;
};

// fewParts makes the parts of a value; the low one of what is not finite is 0.
DEVICE void fewParts(uint32 *high, uint32 *low, float v, bool f16) {
  *high = f16 ? f16OfFloat(v) : bf16OfFloat(v);
  const float rest = v - (f16 ? floatOfF16(*high) : floatOfBF16(*high));
  *low = !isFinite(rest) ? 0 : f16 ? f16OfFloat(rest) : bf16OfFloat(rest);
}

struct keepingMost {
  DEVICE float of(float a, float b) { return a > b ? a : b; }
};

KERNEL(splitFewThreads) void split_few(splitFewArgs a) {
  startNext();
  __shared__ float tops[splitFewThreads / waveSize];
  const int32 halves = ceilDiv(a.Cols, splitColumns) * 2, blocks = ceilDiv(halves * 4, splitFewThreads);
  const int32 row = (int32)blockIdx.x / blocks, part = (int32)blockIdx.x % blocks;
  const float *const x = a.X + (int64)row * a.Cols;
  float by = 1, back = 1;
  if (a.F16) {
    float top = 0;
#pragma unroll 4
    for (int32 c = (int32)threadIdx.x * 4; c < a.Cols; c += splitFewThreads * 4) {
      const Float32x4 four = *(const Float32x4 *)(x + c);
#pragma unroll
      for (int32 i = 0; i < 4; i++) {
        const float size = floatOfBits(bitsOfFloat(four.at[i]) & 0x7fffffffu);
        if (isFinite(size) && size > top) top = size;
      }
    }
    top = waveFold<keepingMost>(top);
    if (laneIndex() == 0) tops[waveIndex()] = top;
    __syncthreads();
#pragma unroll
    for (int32 w = 0; w < splitFewThreads / (int32)waveSize; w++) top = tops[w] > top ? tops[w] : top;
    const int32 up = minimum(126, 141 - (int32)(bitsOfFloat(top) >> 23));
    by = floatOfBits((uint32)(127 + up) << 23), back = floatOfBits((uint32)(127 - up) << 23);
  }
  if (threadIdx.x == 0 && part == 0) ((float *)a.Split)[row] = back;
  const int32 piece = part * splitFewThreads + (int32)threadIdx.x, half = piece / 4, lane = piece % 4;
  if (half >= halves) return;
  Uint32x4 high, low;
#pragma unroll
  for (int32 of = 0; of < 2; of++) {
    const int32 c = half * 32 + of * 16 + lane * 4;
    Float32x4 four = {};
    if (c < a.Cols) four = *(const Float32x4 *)(x + c);
#pragma unroll
    for (int32 i = 0; i < 2; i++) {
      uint32 highs[2], lows[2];
#pragma unroll
      for (int32 e = 0; e < 2; e++) fewParts(&highs[e], &lows[e], four.at[2 * i + e] * by, a.F16);
      high.at[2 * of + i] = highs[0] | highs[1] << 16, low.at[2 * of + i] = lows[0] | lows[1] << 16;
    }
  }
  uint8 *const to = a.Split + (int64)ceilDiv(a.Rows, 64) * 256 + ((int64)row * halves + half) * 128 + lane * 16;
  *(Uint32x4 *)to = high, *(Uint32x4 *)(to + 64) = low;
}
