// sums[i][j] = Σ_c w[j][c] · x[i][c] for up to 16 rows of x, where reading the weights is most
// of the work, on the matrix units of an NVIDIA GPU. split_few has made two parts of x before:
// of bfloat16 for bfloat16 weights, which leave out |x| · 2^−18, or of float16 for MXFP8, which
// leave out |x| · 2^−22 and 2^−40 of the row's largest. Products are exact; sums are float32:
// within the columns of a scale, or 32, in an order of the matrix unit's own, which cuts them
// off, then over those of a wave, then over the waves that share the columns.
//
// A wave takes 16 rows of weights, 128 bytes of each at a time, a unit, and copies them to
// shared memory fewRing − 1 units ahead, so that the memory never waits for arithmetic and no
// wave for another:
//
//	copy         unit 2     unit 3     unit 4
//	multiply     unit 0     unit 1     unit 2
//
// The waves of a block share the columns of 16 rows of weights, or have 16 rows each, or
// something between. A matrix unit multiplies eight columns: the high and the low part of four
// rows of x, side by side, so that a lane has both of their sums:
//
//	column of b      0      1      2      3      4      5      6      7
//	row of x         0 high 0 low  1 high 1 low  2 high 2 low  3 high 3 low
//
// Lane 4g + t multiplies, of every 16 columns, 4t … 4t+3, of rows g and g+8 of weights, and of
// column g of b. A unit's rows are padded, so that lanes find what they read in different banks.

#if defined(HAS_WARPGROUPS)
constexpr int32 fewWaves = fewThreads / waveSize, fewRing = 3;
constexpr int32 fewRowBytes = 128; // of weights, of a unit

// fewX is rows of x as split_few has split them: scales, then
//
//	[rows][64 columns][32 columns][high, low][4 lanes][8 columns]   a lane's 4 of 16 columns, and of the next 16
struct fewX {
  const float *scales; // what sums are multiplied with
  const uint8 *parts;
  int64 rowBytes;
};
DEVICE fewX fewXOf(const uint8 *split, int32 rows, int32 cols) {
  return {(const float *)split, split + (int64)ceilDiv(rows, 64) * 256, (int64)ceilDiv(cols, splitColumns) * 256};
}

// A codec of few rows says how a unit is multiplied, 16 columns after the other: how many
// columns it has, scales of how many of those steps, in a byte each, and how far its rows lie
// apart in shared memory. decode makes pairs of the columns of a lane in a step.
struct fewBF16 {
  static constexpr int32 columns = 64, scaleSteps = 0, stride = fewRowBytes + 32;
  DEVICE void decode(uint32 *pairs, const uint8 *row, int32 step, int32 t) {
    const uint64 both = *(const uint64 *)(row + 32 * step + 8 * t);
    pairs[0] = (uint32)both, pairs[1] = (uint32)(both >> 32);
  }
  DEVICE void multiplyAdd(float *d, const uint32 *a, const uint32 *b) { multiplyAdd16x8(d, a, b); }
};
struct fewMXFP8 {
  static constexpr int32 columns = 128, scaleSteps = 2, stride = fewRowBytes + 16;
  DEVICE void decode(uint32 *pairs, const uint8 *row, int32 step, int32 t) { f16OfE4M3(pairs, *(const uint32 *)(row + 16 * step + 4 * t)); }
  DEVICE void multiplyAdd(float *d, const uint32 *a, const uint32 *b) { multiplyAddF16(d, a, b); }
};

// fewUnits is the memory of the units that are on their way: those of a slot of the ring, and
// their scales.
template <class Codec> struct fewUnits {
  static constexpr int32 scales = Codec::scaleSteps > 0 ? Codec::columns / 16 / Codec::scaleSteps : 0; // of a row
  static constexpr int32 unit = 16 * (Codec::stride + scales), slot = fewWaves * unit;
  static_assert(fewRing * slot <= fewShared, "units on their way fit");
};

// multiplyFewRows sets sums[k][r] of a lane to the product of row 4k + t of x with row g + 8r
// of its wave's 16 rows of weights, over the columns of its wave. weightRow(r) is row r of the
// tile of weights, of a run that lies in one segment, rowOfX(i) the number of row i of x, for any i below 4 · X.
// cols is a multiple of a unit's columns. ready is called once the first weights are on their
// way, and before x is read.
template <class Codec, int32 X, class WeightRow, class RowOfX, class Ready>
DEVICE void multiplyFewRows(uint8 *shared, float (*sums)[2], WeightRow weightRow, const fewX &x, RowOfX rowOfX, int32 split, int32 cols, Ready ready) {
  typedef fewUnits<Codec> memory;
  const int32 lane = (int32)laneIndex(), wave = (int32)waveIndex(), part = wave % split, strip = wave / split * 16;
  const int32 g = lane / 4, t = lane % 4, units = cols / Codec::columns;

  const uint8 *data[4]; // lane l copies piece l % 8 of rows l / 8, l / 8 + 4, …
#pragma unroll
  for (int32 i = 0; i < 4; i++) data[i] = weightRow(strip + lane / 8 + 4 * i).data + lane % 8 * 16;
  const uint8 *const scale = memory::scales > 0 ? weightRow(strip + lane % 16).scale : nullptr;
  uint8 *const own = shared + wave * memory::unit;
  const sharedPlace rows = sharedPlaceOf(own + lane / 8 * Codec::stride + lane % 8 * 16);
  const sharedPlace scales = sharedPlaceOf(own + 16 * Codec::stride + lane % 16 * memory::scales);
  const auto copy = [&](int32 unit, int32 slot) __attribute__((always_inline)) {
#pragma unroll
    for (int32 i = 0; i < 4; i++) copyAsync<16>(rows + (slot + 4 * i * Codec::stride), data[i] + (int64)unit * fewRowBytes);
    if constexpr (memory::scales > 0) {
      if (lane < 16) copyAsync<memory::scales>(scales + slot, scale + unit * memory::scales);
    }
  };

  int32 ahead = part;
#pragma unroll
  for (int32 i = 0; i < fewRing - 1; i++, ahead += split) {
    if (ahead < units) copy(ahead, i * memory::slot);
    copyAsyncEnd();
  }
  ready();
  const uint8 *parts[X];
#pragma unroll
  for (int32 k = 0; k < X; k++) parts[k] = x.parts + rowOfX(4 * k + g / 2) * x.rowBytes + g % 2 * 64 + t * 16;

  constexpr int32 halves = Codec::columns / 32; // of 32 columns
  Uint32x4 next[X];                             // of x, for the next half
  const auto loadX = [&](int32 half) __attribute__((always_inline)) {
#pragma unroll
    for (int32 k = 0; k < X; k++) next[k] = *(const Uint32x4 *)(parts[k] + (int64)minimum(half, units * halves - 1) * 128);
  };
  loadX(part * halves);

  uint32 nan[2] = {};
  int32 slot = 0, free = (fewRing - 1) * memory::slot; // of the unit, and the one before
#pragma unroll 1
  for (int32 unit = part; unit < units; unit += split, ahead += split) {
    copyAsyncWait<fewRing - 2>();
    waveBarrier(); // others' copies, and their reads of the slot before
    if (ahead < units) copy(ahead, free);
    copyAsyncEnd();
    const uint8 *const low = own + slot + g * Codec::stride, *const high = low + 8 * Codec::stride;
    uint32 codes[2] = {};
    if constexpr (memory::scales > 0) {
#pragma unroll
      for (int32 r = 0; r < 2; r++) {
        codes[r] = *(const uint32 *)(own + slot + 16 * Codec::stride + (g + 8 * r) * memory::scales);
        nan[r] |= (~codes[r] - 0x01010101u) & codes[r]; // a top bit: a byte of 255
      }
    }
#pragma unroll
    for (int32 half = 0; half < halves; half++) {
      Uint32x4 b[X];
#pragma unroll
      for (int32 k = 0; k < X; k++) b[k] = next[k];
      loadX(half + 1 < halves ? unit * halves + half + 1 : (unit + split) * halves);
      float products[X][4] = {};
#pragma unroll
      for (int32 step = 0; step < 2; step++) {
        uint32 a[4];
#pragma unroll
        for (int32 r = 0; r < 2; r++) {
          uint32 pairs[2];
          Codec::decode(pairs, r == 0 ? low : high, 2 * half + step, t);
          a[r] = pairs[0], a[2 + r] = pairs[1];
        }
#pragma unroll
        for (int32 k = 0; k < X; k++) {
          const uint32 pairs[2] = {b[k].at[2 * step], b[k].at[2 * step + 1]};
          Codec::multiplyAdd(products[k], a, pairs);
        }
      }
#pragma unroll
      for (int32 r = 0; r < 2; r++) {
        float by = 1; // floatOfE8M0, but for NaN
        if (memory::scales > 0) by = floatOfBits(maximum(half == 3 ? codes[r] >> 1 & 0x7f800000u : codes[r] << (23 - 8 * half) & 0x7f800000u, 1u << 22));
#pragma unroll
        for (int32 k = 0; k < X; k++) {
          const float product = products[k][2 * r + 1] + products[k][2 * r];
          sums[k][r] = memory::scales > 0 ? fusedMultiplyAdd(product, by, sums[k][r]) : sums[k][r] + product;
        }
      }
    }
    free = slot;
    slot = slot + memory::slot == fewRing * memory::slot ? 0 : slot + memory::slot;
  }
  copyAsyncWait<0>();
#pragma unroll
  for (int32 k = 0; k < X; k++) {
    const float by = x.scales[rowOfX(4 * k + t)];
#pragma unroll
    for (int32 r = 0; r < 2; r++) sums[k][r] = nan[r] & 0x80808080u ? notANumber() : sums[k][r] * by;
  }
}

// fewTile is where the sums of a block are, for all threads to read.
template <int32 X> struct fewTile {
  const float *sums;
  int32 split, stride;
  __device__ float sum(int32 i, int32 r) const { // of row i of x and row r of the tile of weights
    float sum = 0;
    for (int32 part = 0; part < split; part++) sum += sums[(part * 4 * X + i) * stride + r];
    return sum;
  }
};

// rowOfRun returns row r of a run, or its last.
DEVICE storedRow rowOfRun(const streamRows &run, int32 r) {
  const int64 row = minimum(r, run.last);
  return {run.data + row * run.stride, run.scale + (run.scaleRow + row) * run.scaleStride, 0, 0};
}

// fewSums multiplies a tile of weights, 16 · fewWaves / split rows, of which weightRow(r) is
// row r, with 4 · X rows of x. All are stored in one format.
template <int32 X, class WeightRow, class RowOfX, class Ready>
DEVICE fewTile<X> fewSums(uint8 *shared, int32 format, WeightRow weightRow, const fewX &x, RowOfX rowOfX, int32 split, int32 cols, Ready ready) {
  float sums[X][2] = {};
  if (format == MXFP8) {
    multiplyFewRows<fewMXFP8, X>(shared, sums, weightRow, x, rowOfX, split, cols, ready);
  } else {
    multiplyFewRows<fewBF16, X>(shared, sums, weightRow, x, rowOfX, split, cols, ready);
  }
  const int32 stride = 16 * fewWaves / split + 8, g = (int32)laneIndex() / 4, t = (int32)laneIndex() % 4;
  const int32 part = (int32)waveIndex() % split, strip = (int32)waveIndex() / split * 16;
  float *const all = (float *)shared;
  __syncthreads(); // before it held weights
#pragma unroll
  for (int32 k = 0; k < X; k++) {
#pragma unroll
    for (int32 r = 0; r < 2; r++) all[(part * 4 * X + 4 * k + t) * stride + strip + g + 8 * r] = sums[k][r];
  }
  __syncthreads();
  return {all, split, stride};
}
#endif
