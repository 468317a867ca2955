// y[row][j] = act(w[j] · x[row], w[Out+j] · x[row]) for many rows, one tile of columns and
// of rows a block, rows counting fastest. The twins are those of tiledGateUps.

template <int32 N> DEVICE void multiplySharedTiles(const gateUpSwiGLUArgs &a) {
  __shared__ tileShared<N> m;
  constexpr int32 tile = Tiling<N>::rows / 2;
  const int32 tiles = ceilDiv(a.Rows, N);
  const int32 first = (int32)blockIdx.x / tiles * tile, row = (int32)blockIdx.x % tiles * N;
  const auto rowOfX = [&](int32 i) { return a.X + (int64)minimum(row + i, a.Rows - 1) * a.In; };
  multiplyGateUpTiles<N>(&m, a.Weights, a.Segments, first, a.Out + first, minimum(tile, a.Out - first), {a.Alpha, a.Limit, a.Beta}, rowOfX,
                         minimum(N, a.Rows - row), a.In, [&](int32 i, int32 j, float y) { a.Y[(int64)(row + i) * a.Out + first + j] = y; });
}

KERNEL(tileThreads, 2) void gate_up_swiglu_tiled_16(gateUpSwiGLUArgs a) { multiplySharedTiles<16>(a); }
KERNEL(tileThreads, 2) void gate_up_swiglu_tiled_32(gateUpSwiGLUArgs a) { multiplySharedTiles<32>(a); }
