// y[j] = Σ_c w[j][c] · x[c]: products with one row of x, where reading the weights is all
// the work. Products and sums are float32: in one strand for each thread, over columns that
// lie a block's width apart, then over the threads of a wave pairwise, then over the waves.
// A scale is applied to the sum over the columns of one access.
//
// A thread fetches its next streamLoads accesses of 16 bytes before it multiplies the ones it
// has, so that the memory never waits for arithmetic; the first ones of a group of rows
// while it sums up the group before:
//
//	fetch      0   1   2   3   0   1   2   3
//	multiply       0   1   2   3   0   1   2   3
//	           group 0         │ sum, group 1
//
// The accesses of a thread are those of as many rows or, where there are few rows, of
// columns that lie a block's width apart.

// streamShared is the shared memory of a block: the sums of its waves over a group of rows,
// and over the group before, which may still be read.
struct streamShared {
  float waves[2][multiplyWaves][streamLoads];
};

// streamRows is a run of rows of a segment that lie a stride apart: an address for each would
// take a third of the registers.
struct streamRows {
  const Segment *segment;
  const uint8 *data, *scale;
  int64 stride, scaleStride;
  int32 scaleRow, last; // of the first row, of which scale is that of row 0; the last row
};

// streamRowsOf returns the rows of s from row on, count of them.
DEVICE streamRows streamRowsOf(const Segment *s, int32 row, int32 count) {
  return {s, (const uint8 *)s->data + (row - s->first) * s->rowStride, (const uint8 *)s->scale, s->rowStride, s->scaleStride, s->scaleRow + row - s->first, count - 1};
}

// streamFetch is what a thread has fetched of a group: R/H rows of each of H runs. Rows after
// the last of a run are read as the last and dropped.
template <class Codec, int32 R, int32 H> struct streamFetch {
  static constexpr int32 perAccess = Codec::columns / Codec::scaleColumns; // scales
  Uint32x4 weights[streamLoads];
  uint32 scales[streamLoads * perAccess]; // as they are stored

  static constexpr int32 width = multiplyThreads * Codec::columns; // columns that lie apart
  static constexpr int32 step = width * (streamLoads / R);

  __device__ void load(const streamRows *runs, int32 from, int32 format, int32 c, int32 cols) {
#pragma unroll
    for (int32 k = 0; k < streamLoads; k++) {
      const streamRows &run = runs[k % R / (R / H)];
      const int32 at = c + k / R * width, row = minimum(from + k % R % (R / H), run.last);
      if (at >= cols) continue;
      weights[k] = loadOnce((const Uint32x4 *)(run.data + row * run.stride + (int64)at * 16 / Codec::columns));
      if (!Codec::scaled) continue;
      const int32 scaleRow = run.scaleRow + row;
      const uint8 *stored = run.scale + (Codec::blocks ? scaleRow / 128 : scaleRow) * run.scaleStride;
#pragma unroll
      for (int32 i = 0; i < perAccess; i++) scales[k * perAccess + i] = Codec::scaleBits(stored, format, at + i * Codec::scaleColumns);
    }
  }
};

// streamOf sums the rows of H runs of one format, R/H of each at a time. ready is called once
// the first weights, which no launch writes, are on their way, and before x is read.
// done(from, sum) is called by the threads of the first wave after a group: thread r < R/H
// has the sum of row from + r of the first run, and the R/H threads after it those of the
// second.
template <class Codec, int32 R, int32 H, class Ready, class Done>
DEVICE void streamOf(streamShared *m, int32 format, const streamRows *runs, const float *x, int32 cols, Ready ready, Done done) {
  typedef streamFetch<Codec, R, H> fetch;
  constexpr int32 rows = R / H; // of a run in a group
  const int32 begin = (int32)threadIdx.x * Codec::columns, groups = runs[0].last / rows + 1;
  fetch next;
  next.load(runs, 0, format, begin, cols);
  ready();
#pragma unroll 1
  for (int32 g = 0; g < groups; g++) {
    float sums[R] = {};
    uint32 nan[R] = {};
#pragma unroll 1
    for (int32 first = 0; first < cols; first += fetch::step) {
      const int32 c = begin + first;
      const fetch now = next;
      if (first + fetch::step < cols) {
        next.load(runs, g * rows, format, c + fetch::step, cols);
      } else if (g + 1 < groups) {
        next.load(runs, (g + 1) * rows, format, begin, cols);
      }
#pragma unroll
      for (int32 u = 0; u < streamLoads / R; u++) {
        const int32 at = c + u * fetch::width;
        if (at >= cols) continue;
#pragma unroll
        for (int32 i = 0; i < fetch::perAccess; i++) {
          float parts[R] = {}; // of a scaled format: what the scale applies to
#pragma unroll
          for (int32 q = 0; q < Codec::scaleColumns / 4; q++) {
            const Float32x4 xs = *(const Float32x4 *)(x + at + i * Codec::scaleColumns + 4 * q);
#pragma unroll
            for (int32 r = 0; r < R; r++) {
              float values[4];
              Codec::decode(values, now.weights[u * R + r], i * (Codec::scaleColumns / 4) + q, nan[r]);
              float &sum = Codec::scaled ? parts[r] : sums[r];
#pragma unroll
              for (int32 k = 0; k < 4; k++) sum = fusedMultiplyAdd(values[k], xs.at[k], sum);
            }
          }
          if (!Codec::scaled) continue;
#pragma unroll
          for (int32 r = 0; r < R; r++) {
            sums[r] = fusedMultiplyAdd(parts[r], Codec::scaleOf(now.scales[(u * R + r) * fetch::perAccess + i], format), sums[r]);
          }
        }
      }
    }
#pragma unroll
    for (int32 r = 0; r < R; r++) {
      if (Codec::isNaN(nan[r])) sums[r] = notANumber();
      sums[r] = Codec::total(runs[r / rows].segment, sums[r]);
    }
    waveSumEach<R>(sums);
    constexpr int32 lanes = waveSize / R;
    if (laneIndex() % lanes == 0) m->waves[g % 2][waveIndex()][laneIndex() / lanes] = sums[0];
    __syncthreads();
    if (waveIndex() == 0) {
      float sum = 0;
#pragma unroll
      for (int32 w = 0; w < multiplyWaves; w++) sum += m->waves[g % 2][w][laneIndex() % R];
      done(g * rows, sum);
    }
  }
}

// multiplyStream is streamOf for runs of any format.
template <int32 R, int32 H, class Ready, class Done>
DEVICE void multiplyStream(streamShared *m, int32 format, const streamRows *runs, const float *x, int32 cols, Ready ready, Done done) {
  switch (format) {
  case F32: return streamOf<codecF32, R, H>(m, format, runs, x, cols, ready, done);
  case F16: return streamOf<codecF16, R, H>(m, format, runs, x, cols, ready, done);
  case BF16: return streamOf<codecBF16, R, H>(m, format, runs, x, cols, ready, done);
  case MXFP8: return streamOf<codecMXFP8, R, H>(m, format, runs, x, cols, ready, done);
  case FP8F32:
  case FP8BF16: return streamOf<codecFP8, R, H>(m, format, runs, x, cols, ready, done);
  case INT8: return streamOf<codecINT8, R, H>(m, format, runs, x, cols, ready, done);
  case MXFP4: return streamOf<codecMXFP4, R, H>(m, format, runs, x, cols, ready, done);
  case NVFP4: return streamOf<codecNVFP4, R, H>(m, format, runs, x, cols, ready, done);
  }
}
