// dst[i] = x[i] · 1/√(mean(x²) + eps) · (1 + w[i]): Gemma RMSNorm of one row by all threads
// of a block, in float64, rounded once. The twin is vec.RMS64.

// rms64 is for short rows, such as heads. dst may be x. waves is shared memory, one value
// for each wave.
DEVICE void rms64(float *dst, const float *x, const float *w, int32 n, double eps, double *waves) {
  double squares = 0;
  for (int32 i = (int32)threadIdx.x; i < n; i += (int32)blockDim.x) squares = fusedMultiplyAdd((double)x[i], (double)x[i], squares);
  const double scale = 1 / squareRoot(blockSum(squares, waves) / n + eps);
  for (int32 i = (int32)threadIdx.x; i < n; i += (int32)blockDim.x) dst[i] = (float)((double)x[i] * scale * (1 + (double)w[i]));
}

// A piece is W values side by side, read or written at once: 4, where all that is
// read and written is aligned to that, or 1.
template <int32 W> struct alignas(4 * W) piece {
  float at[W];
};

template <int32 W> DEVICE bool inPieces(const float *row, int32 n) { return (uint64)row % (4 * W) == 0 && n % W == 0; }

template <int32 W> DEVICE piece<W> pieceAt(const float *row, uint32 c) { return *(const piece<W> *)(row + c); }
template <int32 W> DEVICE void store(float *row, uint32 c, piece<W> p) { *(piece<W> *)(row + c) = p; }

template <int32 W> DEVICE double squaresOf(piece<W> p) {
  double sum = 0;
  for (int32 i = 0; i < W; i++) sum = fusedMultiplyAdd((double)p.at[i], (double)p.at[i], sum);
  return sum;
}

template <int32 W> DEVICE piece<W> scaled(piece<W> p, piece<W> w, double scale) {
  for (int32 i = 0; i < W; i++) p.at[i] = (float)((double)p.at[i] * scale * (1 + (double)w.at[i]));
  return p;
}

// Each of rmsThreads threads (Go defines the number) keeps up to this many values of a row.
constexpr int32 rmsKept = 16;

// rmsOfRow is rms64 of a long row, by all rmsThreads threads of the block, each with a part
// of it in registers. It normalizes what row.read<W>(c) returns, the piece at column c: once for
// every c, in the thread that alone writes dst there. Thread t has pieces t,
// t + blockDim, …. Beyond those that are kept, they wait in dst. waves is shared
// memory, one value for each wave.
template <int32 W, class Row> DEVICE void rmsOfRow(float *dst, const Row &row, const float *w, int32 n, double eps, double *waves) {
  constexpr int32 pieces = rmsKept / W;
  const uint32 first = threadIdx.x * W, step = blockDim.x * W, end = (uint32)n;
  piece<W> kept[pieces] = {}, weight[pieces] = {};
  // All loads are issued before the first is waited for.
#pragma unroll
  for (int32 k = 0; k < pieces; k++) {
    if (first + k * step < end) weight[k] = pieceAt<W>(w, first + k * step);
  }
#pragma unroll
  for (int32 k = 0; k < pieces; k++) {
    if (first + k * step < end) kept[k] = row.template read<W>(first + k * step);
  }
  double squares = 0;
#pragma unroll
  for (int32 k = 0; k < pieces; k++) squares += squaresOf(kept[k]);
  for (uint32 c = first + pieces * step; c < end; c += step) {
    const piece<W> p = row.template read<W>(c);
    squares += squaresOf(p);
    store(dst, c, p);
  }
  const double scale = 1 / squareRoot(blockSum(squares, waves) / n + eps);
#pragma unroll
  for (int32 k = 0; k < pieces; k++) {
    if (first + k * step < end) store(dst, first + k * step, scaled(kept[k], weight[k], scale));
  }
  for (uint32 c = first + pieces * step; c < end; c += step) store(dst, c, scaled(pieceAt<W>(dst, c), pieceAt<W>(w, c), scale));
}
