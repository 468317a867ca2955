// y = x² + k, a tile of values a block: each operation rounded. The twin is
// polynomialTwin; Go gives polynomialTile.

struct polynomialArgs {
  const float *X;
  float *Y;
  int32 N;
  float K;
};

KERNEL(polynomialTile) void hiptest_polynomial(polynomialArgs a) {
  const int32 i = (int32)blockIdx.x * polynomialTile + (int32)threadIdx.x;
  if (i >= a.N) return;
  const double square = (double)a.X[i] * (double)a.X[i]; // exact: not to be fused with the sum
  a.Y[i] = (float)square + a.K;
}
