// What experts.hip has, for experts that many pairs picked: on matrix units, a tile of
// the weights of an expert for each block and all its pairs, N at a time. The weights are
// read again for every N. Twins: those of tiledExperts.

template <bool gated, int32 N> DEVICE void multiplyExpertTiles(const expertsArgs &a) {
  __shared__ tileShared<N> m;
  constexpr int32 tile = Tiling<N>::rows / (gated ? 2 : 1);
  const int32 tiles = ceilDiv(a.Out, tile), slot = (int32)blockIdx.x / tiles;
  if (slot >= *a.ActiveCount) return;
  const int32 expert = a.Active[slot], first = (int32)blockIdx.x % tiles * tile, count = minimum(tile, a.Out - first);
  const int32 *picked = a.Order + a.Offsets[expert];
  const int32 pairs = a.Offsets[expert + 1] - a.Offsets[expert];
  const int32 row = expert * (gated ? 2 : 1) * a.Out + first;
#pragma unroll 1
  for (int32 pair = 0; pair < pairs; pair += N) {
    const auto rowOfX = [&](int32 i) { return a.X + (int64)(picked[minimum(pair + i, pairs - 1)] / a.PairsPerX) * a.In; };
    const auto store = [&](int32 i, int32 j, float y) { a.Y[(int64)picked[pair + i] * a.Out + first + j] = y; };
    const int32 rows = minimum(N, pairs - pair);
    if constexpr (gated) {
      multiplyGateUpTiles<N>(&m, a.Weights, a.Segments, row, row + a.Out, count, {a.Alpha, a.Limit, a.Beta}, rowOfX, rows, a.In, store);
    } else {
      const auto weightRow = [&](int32 j) { return row + minimum(j, count - 1); };
      tileSums<N>(&m, a.Weights, a.Segments, weightRow, rowOfX, rows, a.In, tile, [&](int32 i, int32 j) {
        if (j < count) store(i, j, tileSum<N>(&m, i, j));
      });
    }
  }
}

KERNEL(tileThreads, 3) void experts_gate_up_tiled_16(expertsArgs a) { multiplyExpertTiles<true, 16>(a); }
KERNEL(tileThreads, 2) void experts_gate_up_tiled_64(expertsArgs a) { multiplyExpertTiles<true, 64>(a); }
KERNEL(tileThreads, 3) void experts_down_tiled_16(expertsArgs a) { multiplyExpertTiles<false, 16>(a); }
KERNEL(tileThreads, 2) void experts_down_tiled_64(expertsArgs a) { multiplyExpertTiles<false, 64>(a); }
