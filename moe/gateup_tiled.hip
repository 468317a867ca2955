// y[i][j] = act(w[gate+j] · x[i], w[up+j] · x[i]) for many rows of x: a tile of weights is
// as many rows of gate as of up.

// multiplyGateUpTiles calls store(i, j, y[i][j]) for i < rows and j < count, at most
// half a tile.
template <int32 N, class RowOfX, class Store>
DEVICE void multiplyGateUpTiles(tileShared<N> *m, const Segment *segments, int32 n, int32 gate, int32 up, int32 count, swiGLU act, RowOfX rowOfX, int32 rows, int32 cols, Store store) {
  constexpr int32 half = Tiling<N>::rows / 2;
  const auto weightRow = [&](int32 j) { return (j < half ? gate : up) + minimum(j % half, count - 1); };
  tileSums<N>(m, segments, n, weightRow, rowOfX, rows, cols, half, [&](int32 i, int32 j) {
    if (j < count) store(i, j, act.activate(tileSum<N>(m, i, j), tileSum<N>(m, i, half + j)));
  });
}
