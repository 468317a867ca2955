// y[i][j] = Σ_c w[j][c] · x[i][c], one tile of rows of weights a block. The twin is
// productTwin.

KERNEL(multiplyThreads) void product(productArgs a) { multiplyRowsOfX<4>(a, (int32)blockIdx.x * multiplyTile, 0, a.Rows); }

// product_one is product for one row of x.
KERNEL(multiplyThreads, oneRowBlocks) void product_one(productArgs a) { multiplyRowsOfX<1>(a, (int32)blockIdx.x * multiplyTile, 0, 1); }
