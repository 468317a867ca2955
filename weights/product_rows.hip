// y[i][j] = Σ_c w[j][c] · x[i][c], one tile of rows of weights and a few rows of x a block,
// for many rows of x and weights that matrix units cannot multiply. The twin is that of
// productRows.

constexpr int32 productRows = 4; // a block

KERNEL(multiplyThreads) void product_rows(productArgs a) {
  const int32 tiles = ceilDiv(a.Rows, productRows), row = (int32)blockIdx.x % tiles * productRows;
  multiplyRowsOfX<productRows>(a, (int32)blockIdx.x / tiles * multiplyTile, row, minimum(row + productRows, a.Rows));
}
