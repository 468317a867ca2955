// y[i][j] = Σ_c w[first+j][c] · x[i][c] for up to 8 rows of x at once, on NVIDIA's matrix
// unit where it is worth it. Twins as of multiply.hip.

#if defined(HAS_MULTIPLY_ADD_16X8)
// splitBF16 makes bfloat16 parts of two floats, the first in the lower half. Each part
// is cut off, not rounded, so that the three are the float, bit for bit, down to the
// smallest normal numbers. Infinity and NaN have one part.
DEVICE void splitBF16(uint32 *parts, float first, float second) {
  const float values[2] = {first, second};
  uint32 cut[3][2];
#pragma unroll
  for (int32 i = 0; i < 2; i++) {
    const uint32 bits = bitsOfFloat(values[i]);
    const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    cut[0][i] = (values[i] == values[i] ? bits : 0x7fc00000u) & 0xffff0000u;
    const float rest = finite ? values[i] - floatOfBits(cut[0][i]) : 0.0f;
    cut[1][i] = bitsOfFloat(rest) & 0xffff0000u;
    cut[2][i] = bitsOfFloat(rest - floatOfBits(cut[1][i])) & 0xffff0000u;
  }
#pragma unroll
  for (int32 p = 0; p < 3; p++) parts[p] = cut[p][0] >> 16 | cut[p][1];
}

// bf16Pairs are 8 columns of a row of weights as bfloat16, which holds every e4m3.
template <class Codec> struct bf16Pairs;
template <> struct bf16Pairs<codecBF16> {
  typedef Uint32x4 stored;
  DEVICE void decode(uint32 *pairs, const stored &w) {
#pragma unroll
    for (int32 p = 0; p < 4; p++) pairs[p] = w.at[p];
  }
};
template <> struct bf16Pairs<codecMXFP8> {
  struct alignas(8) stored {
    uint32 at[2];
  };
  DEVICE void decode(uint32 *pairs, const stored &w) {
    const Uint32x4 both = {{w.at[0], w.at[1], 0, 0}};
    uint32 nan = 0;
#pragma unroll
    for (int32 q = 0; q < 2; q++) {
      float v[4];
      codecMXFP8::decode(v, both, q, nan);
#pragma unroll
      for (int32 p = 0; p < 2; p++) pairs[2 * q + p] = bitsOfFloat(v[2 * p]) >> 16 | (bitsOfFloat(v[2 * p + 1]) & 0xffff0000u);
    }
    if (codecMXFP8::isNaN(nan)) pairs[0] = 0x7fc07fc0u;
  }
};

// multiplyMatrix multiplies a tile of one segment with up to 8 rows of x on the matrix
// unit: every float of x as three bfloat16, exactly, all products and sums in float32.
// A wave takes 2 units of 32 columns of every 2 · multiplyWaves; lane 4g + t of it, of
// each unit, columns 8t … 8t+7 of rows g and g+8 of weights and of row g of x. In which
// order columns are summed does not matter, as long as both sides agree.
template <class Codec, class RowOfX>
DEVICE void multiplyMatrix(multiplied *m, const Segment *s, int32 row, int32 count, RowOfX rowOfX, int32 left, int32 cols) {
  typedef bf16Pairs<Codec> codec;
  typedef typename codec::stored stored;
  constexpr int32 together = 2;
  const int32 g = (int32)laneIndex() / 4, t = (int32)laneIndex() % 4, format = s->Format, units = cols / 32;
  const storedRow rows[2] = {rowOf(s, row + minimum(g, count - 1)), rowOf(s, row + minimum(g + 8, count - 1))};
  const float *x = rowOfX(minimum(g, left - 1));
  float sums[4] = {};
#pragma unroll 1
  for (int32 first = (int32)waveIndex() * together; first < units; first += multiplyWaves * together) {
    stored weights[together][2];
    float scales[together][2];
#pragma unroll
    for (int32 k = 0; k < together; k++) {
      const uint32 c = (uint32)minimum(first + k, units - 1) * 32 + 8 * t;
#pragma unroll
      for (int32 r = 0; r < 2; r++) {
        weights[k][r] = *(const stored *)(rows[r].data + c * (sizeof(stored) / 8));
        scales[k][r] = Codec::scale(rows[r].scale, format, c);
      }
    }
#pragma unroll
    for (int32 k = 0; k < together; k++) {
      if (first + k >= units) continue;
      const uint32 c = (uint32)(first + k) * 32 + 8 * t;
      const Float32x4 low = *(const Float32x4 *)(x + c), high = *(const Float32x4 *)(x + c + 4);
      uint32 parts[4][3], pairs[2][4];
#pragma unroll
      for (int32 p = 0; p < 2; p++) {
        splitBF16(parts[p], low.at[2 * p], low.at[2 * p + 1]);
        splitBF16(parts[p + 2], high.at[2 * p], high.at[2 * p + 1]);
      }
#pragma unroll
      for (int32 r = 0; r < 2; r++) codec::decode(pairs[r], weights[k][r]);
      float products[4] = {};
#pragma unroll
      for (int32 step = 0; step < 4; step += 2) {
        const uint32 a[4] = {pairs[0][step], pairs[1][step], pairs[0][step + 1], pairs[1][step + 1]};
#pragma unroll
        for (int32 part = 2; part >= 0; part--) {
          const uint32 b[2] = {parts[step][part], parts[step + 1][part]};
          multiplyAdd16x8(products, a, b);
        }
      }
#pragma unroll
      for (int32 i = 0; i < 4; i++) {
        if (Codec::scaled) {
          sums[i] = fusedMultiplyAdd(products[i], scales[k][i / 2], sums[i]);
        } else {
          sums[i] += products[i];
        }
      }
    }
  }
#pragma unroll
  for (int32 i = 0; i < 4; i++) m->waves[waveIndex()][2 * t + i % 2][g + 8 * (i / 2)] = sums[i];
  sumWaves(m, multiplyRows);
}
#endif

// multiplyFew is multiply for left rows of x, of which it does as many as it
// returns: 1, 2, up to 4, or up to 8 on a matrix unit. rowOfX(i) is the address of row
// i, cols floats behind that of row i − 1 or aligned like it. A kernel for one row at a
// time, most = 1, needs fewer registers, so that more of its blocks wait for memory side
// by side.
enum { oneRowBlocks = 4 }; // of such a kernel on a multiprocessor

template <int32 most = multiplyRows, class RowOfX>
DEVICE int32 multiplyFew(multiplied *m, const Segment *segments, int32 n, int32 first, int32 count, RowOfX rowOfX, int32 left, int32 cols) {
  if constexpr (most == 1) {
    multiply<1>(m, segments, n, first, count, rowOfX, left, cols);
    return 1;
  }
#if defined(HAS_MULTIPLY_ADD_16X8)
  if (left > 4 && cols % 32 == 0) { // fewer are faster as they are
    const Segment *s = segmentOf(segments, n, first);
    const float *const x[1] = {rowOfX(0)};
    if (first + count <= s->First + s->Rows && aligned<1>(s, x, cols)) {
      if (s->Format == MXFP8) {
        multiplyMatrix<codecMXFP8>(m, s, first, count, rowOfX, left, cols);
        return minimum(left, multiplyRows);
      }
      if (s->Format == BF16) {
        multiplyMatrix<codecBF16>(m, s, first, count, rowOfX, left, cols);
        return minimum(left, multiplyRows);
      }
    }
  }
#endif
  if (left == 1) {
    multiply<1>(m, segments, n, first, count, rowOfX, left, cols);
    return 1;
  }
  if (left == 2) {
    multiply<2>(m, segments, n, first, count, rowOfX, left, cols);
    return 2;
  }
  multiply<4>(m, segments, n, first, count, rowOfX, left, cols);
  return minimum(left, 4);
}
