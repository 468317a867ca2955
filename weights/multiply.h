// y[i][j] = Σ_c w[first+j][c] · x[i][c]: Rows.Multiply for a tile of rows of weights and a
// few rows of x. Go gives multiplyTile, multiplyRows and multiplyThreads: the rows of
// weights and of x of one call, and the threads of the block. Products and sums are
// float32: in one strand for each thread, over columns that lie a block's width apart, then
// over the threads of a wave pairwise, then over the waves. A scale is applied to the sum
// over the 16 columns or fewer of one access.
//
// A thread holds its columns of x in registers and streams the rows of weights past
// them, 16 bytes at a time, the rows of a group in flight together:
//
//	              thread 0   thread 1   thread 2  …
//	x[i]          16 bytes of weights are 4, 8 or 16 columns of x
//	w[first]      ■■■■       ■■■■       ■■■■
//	w[first+1]    ■■■■       ■■■■       ■■■■
//	…

constexpr int32 multiplyWaves = multiplyThreads / waveSize;

// multiplyGroup is the rows of weights that are in flight together with N rows of x, in
// accesses of so many columns: an AMD GPU has registers for fewer.
#if defined(__AMDGCN__)
template <int32 N, int32 columns> constexpr int32 multiplyGroup = (N > 1 || DH_WAVE == 32 ? 4 : 8) / (columns > 16 ? 2 : 1);
#else
template <int32 N, int32 columns> constexpr int32 multiplyGroup = N == 4 ? 4 : 8;
#endif

// multiplied is the shared memory of a block that multiplies.
struct multiplied {
  float sums[multiplyRows][multiplyTile]; // the result
  float waves[multiplyWaves][multiplyRows][multiplyTile];
};

// aligned reports whether rows of weights and of x can be read in accesses of 16
// bytes, without a rest.
template <int32 N> DEVICE bool aligned(const Segment *s, const float *const *x, int32 cols) {
  const int64 rowBytes = s->format == F32 ? 4 * (int64)cols : s->format == F16 || s->format == BF16 ? 2 * (int64)cols : cols;
  const bool rest = (s->format == MXFP4 || s->format == NVFP4) && cols % 32 != 0;
  uint64 all = (uint64)s->data | (uint64)s->rowStride | (uint64)rowBytes | (uint64)rest;
#pragma unroll
  for (int32 i = 0; i < N; i++) all |= (uint64)x[i];
  return all % 16 == 0;
}

// multiplyAligned multiplies count rows of one segment, from row on, with N rows of
// x. Rows of weights after the last are read as the last and dropped.
template <class Codec, int32 N>
DEVICE void multiplyAligned(multiplied *m, int32 at, const Segment *s, int32 row, int32 count, const float *const *x, int32 cols) {
  constexpr int32 columns = Codec::columns, group = multiplyGroup<N, columns>;
  const int32 format = s->format;
#pragma unroll 1
  for (int32 first = 0; first < count; first += group) {
    // Rows lie a stride apart: an address for each would take a third of the registers.
    const int32 at0 = row - s->first + first, last = count - 1 - first;
    const uint8 *data = (const uint8 *)s->data + at0 * s->rowStride;
    const int64 stride = s->rowStride, scaleStride = s->scaleStride;
    float sums[group * N] = {};
    uint32 nan[group] = {};
#pragma unroll 1
    for (uint32 c = threadIdx.x * columns; c < (uint32)cols; c += multiplyThreads * columns) {
      Uint32x4 weights[group];
#pragma unroll
      for (int32 r = 0; r < group; r++) weights[r] = *(const Uint32x4 *)(data + minimum(r, last) * stride + (columns > 16 ? c / (columns / 16) : c * (16 / columns)));
#pragma unroll
      for (int32 block = 0; block < columns; block += Codec::scaleColumns) {
      float parts[group * N] = {}; // of a scaled format: what the scale applies to
#pragma unroll
      for (int32 q = block / 4; q < (block + Codec::scaleColumns) / 4; q++) {
        Float32x4 xs[N];
#pragma unroll
        for (int32 i = 0; i < N; i++) xs[i] = *(const Float32x4 *)(x[i] + (c + 4 * q));
#pragma unroll
        for (int32 r = 0; r < group; r++) {
          float values[4];
          Codec::decode(values, weights[r], q, nan[r]);
#pragma unroll
          for (int32 i = 0; i < N; i++) {
            float &sum = Codec::scaled ? parts[r * N + i] : sums[r * N + i];
#pragma unroll
            for (int32 k = 0; k < 4; k++) sum = fusedMultiplyAdd(values[k], xs[i].at[k], sum);
          }
        }
      }
      if (!Codec::scaled) continue;
#pragma unroll
      for (int32 r = 0; r < group; r++) {
        const int32 scaleRow = s->scaleRow + at0 + minimum(r, last);
        const float scale = Codec::scale((const uint8 *)s->scale + (Codec::blocks ? scaleRow / 128 : scaleRow) * scaleStride, format, c + block);
#pragma unroll
        for (int32 i = 0; i < N; i++) sums[r * N + i] = fusedMultiplyAdd(parts[r * N + i], scale, sums[r * N + i]);
      }
      }
    }
#pragma unroll
    for (int32 r = 0; r < group; r++) {
      if (!Codec::isNaN(nan[r])) continue;
#pragma unroll
      for (int32 i = 0; i < N; i++) sums[r * N + i] = notANumber();
    }
    waveSumEach<group * N>(sums);
    constexpr int32 lanes = waveSize / (group * N);
    const int32 r = (int32)laneIndex() / lanes / N, i = (int32)laneIndex() / lanes % N;
    if (laneIndex() % lanes == 0 && first + r < count) m->waves[waveIndex()][i][at + first + r] = Codec::total(s, sums[0]);
  }
}

// multiplyUnaligned is multiplyAligned for any alignment: a value at a time.
template <int32 N>
DEVICE void multiplyUnaligned(multiplied *m, int32 at, const Segment *s, int32 row, int32 count, const float *const *x, int32 cols) {
#pragma unroll 1
  for (int32 r = 0; r < count; r++) {
    const storedRow stored = rowOf(s, row + r);
    float sums[N] = {};
#pragma unroll 1
    for (int32 c = (int32)threadIdx.x; c < cols; c += multiplyThreads) {
      const float value = valueAt(stored, s->format, c);
#pragma unroll
      for (int32 i = 0; i < N; i++) sums[i] = fusedMultiplyAdd(value, x[i][c], sums[i]);
    }
#pragma unroll
    for (int32 i = 0; i < N; i++) {
      const float sum = waveSum(sums[i]);
      if (laneIndex() == 0) m->waves[waveIndex()][i][at + r] = sum;
    }
  }
}

// sumWaves adds up what the waves have for rows rows of x.
DEVICE void sumWaves(multiplied *m, int32 rows) {
  __syncthreads();
  for (int32 k = (int32)threadIdx.x; k < rows * multiplyTile; k += multiplyThreads) {
    const int32 i = k / multiplyTile, j = k % multiplyTile;
    float sum = 0;
#pragma unroll
    for (int32 w = 0; w < multiplyWaves; w++) sum += m->waves[w][i][j];
    m->sums[i][j] = sum;
  }
  __syncthreads();
}

// multiply sets m->sums[i][j] for the count ≤ multiplyTile rows of weights from
// first, and N rows of x of which left exist, for all threads of the block to read.
template <int32 N, class RowOfX>
DEVICE void multiply(multiplied *m, const Segment *segments, int32 n, int32 first, int32 count, RowOfX rowOfX, int32 left, int32 cols) {
  const float *x[N];
#pragma unroll
  for (int32 i = 0; i < N; i++) x[i] = rowOfX(minimum(i, left - 1));
#pragma unroll 1
  for (int32 at = 0; at < count;) {
    const Segment *s = segmentOf(segments, n, first + at);
    const int32 row = first + at, run = minimum(count - at, s->first + s->rows - row);
    switch (aligned<N>(s, x, cols) ? s->format : 0) {
    case F32: multiplyAligned<codecF32, N>(m, at, s, row, run, x, cols); break;
    case F16: multiplyAligned<codecF16, N>(m, at, s, row, run, x, cols); break;
    case BF16: multiplyAligned<codecBF16, N>(m, at, s, row, run, x, cols); break;
    case MXFP8: multiplyAligned<codecMXFP8, N>(m, at, s, row, run, x, cols); break;
    case FP8F32:
    case FP8BF16: multiplyAligned<codecFP8, N>(m, at, s, row, run, x, cols); break;
    case INT8: multiplyAligned<codecINT8, N>(m, at, s, row, run, x, cols); break;
    case MXFP4: multiplyAligned<codecMXFP4, N>(m, at, s, row, run, x, cols); break;
    case NVFP4: multiplyAligned<codecNVFP4, N>(m, at, s, row, run, x, cols); break;
    default: multiplyUnaligned<N>(m, at, s, row, run, x, cols);
    }
    at += run;
  }
  sumWaves(m, N);
}
// ---------------------------------------------------------------- up to 8 rows of x at
// once, on NVIDIA's matrix unit where it is worth it

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
  const int32 g = (int32)laneIndex() / 4, t = (int32)laneIndex() % 4, format = s->format, units = cols / 32;
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

// multiplyFew is multiply for left rows of x, of which it does as many as it returns: 1, 2,
// up to 4, or up to 8 on a matrix unit. rowOfX(i) is the address of row i, cols floats
// after that of row i − 1 or aligned like it. A kernel for one row at a time, most = 1,
// needs fewer registers, so that more of its blocks can wait for memory at the same time:
// resident in its declaration asks for that.
template <int32 most = multiplyRows, class RowOfX>
DEVICE int32 multiplyFew(multiplied *m, const Segment *segments, int32 n, int32 first, int32 count, RowOfX rowOfX, int32 left, int32 cols) {
  if constexpr (most == 1) {
    multiply<1>(m, segments, n, first, count, rowOfX, left, cols);
    return 1;
  }
#if defined(HAS_MULTIPLY_ADD_16X8)
  if (most > 4 && left > 4 && cols % 32 == 0) { // fewer are faster as they are
    const Segment *s = segmentOf(segments, n, first);
    const float *const x[1] = {rowOfX(0)};
    if (first + count <= s->first + s->rows && aligned<1>(s, x, cols)) {
      if (s->format == MXFP8) {
        multiplyMatrix<codecMXFP8>(m, s, first, count, rowOfX, left, cols);
        return minimum(left, multiplyRows);
      }
      if (s->format == BF16) {
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
