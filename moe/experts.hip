// y[pair][j] = act(w13_e[j] · x, w13_e[Out+j] · x), or w2_e[j] · x[pair], for the pairs
// that picked expert e: what all its kernels have in common. They compile apart, at the
// same time.

struct expertsArgs {
  const float *X;
  float *Y;
  const Segment *Weights;
  const int32 *Offsets, *Order, *Active, *ActiveCount;
  double Alpha, Limit, Beta;
  int32 Segments, Pairs, PairsPerX, Experts, In, Out;
};

// multiplyExpert has one block per expert that was picked and tile of columns.
template <bool gated, int32 most> DEVICE void multiplyExpert(gateUpShared *s, const expertsArgs &a) {
  const int32 tiles = ceilDiv(a.Out, multiplyTile), slot = (int32)blockIdx.x / tiles;
  if (slot >= *a.ActiveCount) return;
  const int32 expert = a.Active[slot], first = (int32)blockIdx.x % tiles * multiplyTile, count = minimum(multiplyTile, a.Out - first);
  const int32 *picked = a.Order + a.Offsets[expert];
  const int32 pairs = a.Offsets[expert + 1] - a.Offsets[expert];
  const int32 row = expert * (gated ? 2 : 1) * a.Out + first;
  for (int32 pair = 0, n; pair < pairs; pair += n) {
    const auto rowOfX = [&](int32 i) { return a.X + (int64)(picked[pair + i] / a.PairsPerX) * a.In; };
    if (gated) {
      n = multiplyGateUp<most>(s, a.Weights, a.Segments, row, row + a.Out, count, {a.Alpha, a.Limit, a.Beta}, rowOfX, pairs - pair, a.In);
    } else {
      n = multiplyFew<most>(&s->m, a.Weights, a.Segments, row, count, rowOfX, pairs - pair, a.In);
    }
    const int32 i = (int32)threadIdx.x / multiplyTile, j = (int32)threadIdx.x % multiplyTile;
    if (i < n && j < count) a.Y[(int64)picked[pair + i] * a.Out + first + j] = s->m.sums[i][j];
    __syncthreads();
  }
}
