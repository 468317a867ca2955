// dst[i] = x[i] · 1/√(mean(x²) + eps) · (1 + w[i]): RMS64 of one row by all threads
// of the block, in float64, rounded once. dst may be x. waves is shared memory, one
// value for each wave.
DEVICE void rms64(float *dst, const float *x, const float *w, int32 n, double eps, double *waves) {
  double squares = 0;
  for (int32 i = (int32)threadIdx.x; i < n; i += (int32)blockDim.x) squares = fusedMultiplyAdd((double)x[i], (double)x[i], squares);
  const double scale = 1 / squareRoot(blockSum(squares, waves) / n + eps);
  for (int32 i = (int32)threadIdx.x; i < n; i += (int32)blockDim.x) dst[i] = (float)((double)x[i] * scale * (1 + (double)w[i]));
}
