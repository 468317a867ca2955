// y[i][j] = act(w[gate+j] · x[i], w[up+j] · x[i]): gateUp of this package, for a tile of
// columns and a few rows of x.

struct gateUpShared {
  multiplied m; // the result is in m.sums
  float gate[multiplyRows][multiplyTile];
};

// multiplyGateUp does as many of left rows of x as it returns, as multiplyFew.
template <int32 most, class RowOfX>
DEVICE int32 multiplyGateUp(gateUpShared *s, const Segment *segments, int32 n, int32 gate, int32 up, int32 count, swiGLU act, RowOfX rowOfX, int32 left, int32 cols) {
  const int32 i = (int32)threadIdx.x / multiplyTile, j = (int32)threadIdx.x % multiplyTile;
  int32 rows = multiplyRows; // the fewer of both halves: their weights may lie and be stored otherwise
#pragma unroll 1
  for (int32 half = 0; half < 2; half++) {
    rows = minimum(rows, multiplyFew<most>(&s->m, segments, n, half == 0 ? gate : up, count, rowOfX, left, cols));
    if (i < rows) {
      if (half == 0) {
        s->gate[i][j] = s->m.sums[i][j];
      } else if (j < count) {
        s->m.sums[i][j] = act.activate(s->gate[i][j], s->m.sums[i][j]);
      }
    }
    __syncthreads();
  }
  return rows;
}

static_assert(multiplyThreads >= multiplyRows * multiplyTile, "a thread for each product");
