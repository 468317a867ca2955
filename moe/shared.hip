// y[row][j] = act(w[j] · x[row], w[Out+j] · x[row]): what all its kernels have in common.
// They compile apart, at the same time.

struct gateUpSwiGLUArgs {
  const float *X;
  float *Y;
  const Segment *Weights;
  double Alpha, Limit, Beta;
  int32 Segments, Rows, In, Out;
};

template <int32 most> DEVICE void multiplyShared(const gateUpSwiGLUArgs &a) {
  __shared__ gateUpShared s;
  const int32 first = (int32)blockIdx.x * multiplyTile, count = minimum(multiplyTile, a.Out - first);
  const int32 i = (int32)threadIdx.x / multiplyTile, j = (int32)threadIdx.x % multiplyTile;
  for (int32 row = 0, n; row < a.Rows; row += n) {
    const float *x = a.X + (int64)row * a.In;
    const auto rowOfX = [&](int32 r) { return x + (int64)r * a.In; };
    n = multiplyGateUp<most>(&s, a.Weights, a.Segments, first, a.Out + first, count, {a.Alpha, a.Limit, a.Beta}, rowOfX, a.Rows - row, a.In);
    if (i < n && j < count) a.Y[(int64)(row + i) * a.Out + first + j] = s.m.sums[i][j];
    __syncthreads();
  }
}
