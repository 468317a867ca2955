// residual[r] += x[r], where there is one; y[r] = rms(that or x[r]; w): one block per
// row. The twin is rmsNormTwin.

struct rmsNormArgs {
  float *Y;
  const float *X, *W;
  float *Residual;
  double Eps;
  int64 YStride, XStride;
  int32 Rows, N;
};

KERNEL(1024) void rms_norm(rmsNormArgs a) {
  __shared__ double waves[1024 / waveSize];
  const int64 row = blockIdx.x;
  const float *x = a.X + row * a.XStride;
  if (a.Residual) {
    float *sum = a.Residual + row * a.N;
    // A thread reads back what it wrote itself: rms64 shares columns out alike.
    for (int32 i = (int32)threadIdx.x; i < a.N; i += (int32)blockDim.x) sum[i] += x[i];
    x = sum;
  }
  rms64(a.Y + row * a.YStride, x, a.W, a.N, a.Eps, waves);
}
