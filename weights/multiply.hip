// y[i][j] = Σ_c w[first+j][c] · x[i][c]: Rows.Multiply64 for a tile of rows of
// weights and a few rows of x. Products and sums are float32: in one strand for
// each thread, over columns that lie a block's width apart, then over the threads
// of a wave pairwise, then over the waves. A scale is applied to the sum over the
// 16 columns or fewer of one access.
//
// A thread holds its columns of x in registers and streams the rows of weights past
// them, 16 bytes at a time, the rows of a group in flight together:
//
//	              thread 0   thread 1   thread 2  …
//	x[i]          16 bytes of weights are 4, 8 or 16 columns of x
//	w[first]      ■■■■       ■■■■       ■■■■
//	w[first+1]    ■■■■       ■■■■       ■■■■
//	…

// The rows of weights and of x of one call, and the threads of the block.
constexpr int32 multiplyTile = 16, multiplyRows = 8, multiplyThreads = 128;
constexpr int32 multiplyWaves = multiplyThreads / waveSize;

// multiplyGroup is the rows of weights that are in flight together: a wave of 32 on an
// AMD GPU has registers for fewer.
#if defined(__AMDGCN__) && DH_WAVE == 32
constexpr int32 multiplyGroup = 4;
#else
constexpr int32 multiplyGroup = 8;
#endif

// multiplied is the shared memory of a block that multiplies.
struct multiplied {
  float sums[multiplyRows][multiplyTile]; // the result
  float waves[multiplyWaves][multiplyRows][multiplyTile];
};

// aligned tells whether rows of weights and of x can be read in accesses of 16
// bytes, without a rest.
template <int32 N> DEVICE bool aligned(const Segment *s, const float *const *x, int32 cols) {
  const int64 rowBytes = s->Format == F32 ? 4 * (int64)cols : s->Format <= BF16 ? 2 * (int64)cols : cols;
  uint64 all = (uint64)s->Data | (uint64)s->RowStride | (uint64)rowBytes;
#pragma unroll
  for (int32 i = 0; i < N; i++) all |= (uint64)x[i];
  return all % 16 == 0;
}

// multiplyAligned multiplies count rows of one segment, from row on, with N rows of
// x. Rows of weights behind the last are read as the last and dropped.
template <class Codec, int32 N>
DEVICE void multiplyAligned(multiplied *m, int32 at, const Segment *s, int32 row, int32 count, const float *const *x, int32 cols) {
  constexpr int32 columns = Codec::columns, group = N == 4 ? 4 : multiplyGroup;
  const int32 format = s->Format;
#pragma unroll 1
  for (int32 first = 0; first < count; first += group) {
    // Rows lie a stride apart: an address for each would take a third of the registers.
    const int32 at0 = row - s->First + first, last = count - 1 - first;
    const uint8 *data = s->Data + at0 * s->RowStride;
    const int64 stride = s->RowStride, scaleStride = s->ScaleStride;
    float sums[group * N] = {};
    uint32 nan[group] = {};
#pragma unroll 1
    for (uint32 c = threadIdx.x * columns; c < (uint32)cols; c += multiplyThreads * columns) {
      Uint32x4 weights[group];
#pragma unroll
      for (int32 r = 0; r < group; r++) weights[r] = *(const Uint32x4 *)(data + minimum(r, last) * stride + c * (16 / columns));
      float parts[group * N] = {}; // of a scaled format: what the scale applies to
#pragma unroll
      for (int32 q = 0; q < columns / 4; q++) {
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
        const int32 scaleRow = s->ScaleRow + at0 + minimum(r, last);
        const float scale = Codec::scale(s->Scale + (Codec::blocks ? scaleRow / 128 : scaleRow) * scaleStride, format, c);
#pragma unroll
        for (int32 i = 0; i < N; i++) sums[r * N + i] = fusedMultiplyAdd(parts[r * N + i], scale, sums[r * N + i]);
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
    if (laneIndex() % lanes == 0 && first + r < count) m->waves[waveIndex()][i][at + first + r] = sums[0];
  }
}

// multiplyUnaligned is multiplyAligned for whatever lies anywhere: a value at a time.
template <int32 N>
DEVICE void multiplyUnaligned(multiplied *m, int32 at, const Segment *s, int32 row, int32 count, const float *const *x, int32 cols) {
#pragma unroll 1
  for (int32 r = 0; r < count; r++) {
    const storedRow stored = rowOf(s, row + r);
    float sums[N] = {};
#pragma unroll 1
    for (int32 c = (int32)threadIdx.x; c < cols; c += multiplyThreads) {
      const float value = valueAt(stored, s->Format, c);
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
    const int32 row = first + at, run = minimum(count - at, s->First + s->Rows - row);
    switch (aligned<N>(s, x, cols) ? s->Format : 0) {
    case F32: multiplyAligned<codecF32, N>(m, at, s, row, run, x, cols); break;
    case F16: multiplyAligned<codecF16, N>(m, at, s, row, run, x, cols); break;
    case BF16: multiplyAligned<codecBF16, N>(m, at, s, row, run, x, cols); break;
    case MXFP8: multiplyAligned<codecMXFP8, N>(m, at, s, row, run, x, cols); break;
    case FP8F32:
    case FP8BF16: multiplyAligned<codecFP8, N>(m, at, s, row, run, x, cols); break;
    case INT8: multiplyAligned<codecINT8, N>(m, at, s, row, run, x, cols); break;
    default: multiplyUnaligned<N>(m, at, s, row, run, x, cols);
    }
    at += run;
  }
  sumWaves(m, N);
}
