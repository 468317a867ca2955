// Rows of x as two bfloat16 each, high + low, in the order in which warpgroups multiply them:
// see warpgroup.h, and the prelude for how pieces of 16 bytes are exchanged. The twin is
// splitRowsTwin of this package.

struct splitRowsArgs {
  const float *X;
  const int32 *Order, *Count;
  uint16 *Parts;
  int64 Room;
  int32 Rows, Cols, PerX, pad;
};

// A thread makes a piece of 8 columns of either part: columns 16t + 4q + p and the one two
// after it, for t from 0 to 3.
KERNEL(splitThreads) void split_rows(splitRowsArgs a) {
  const int32 groups = ceilDiv(a.Cols, splitColumns);
  const int64 piece = (int64)blockIdx.x * splitThreads + (int64)threadIdx.x;
  const int32 in = (int32)(piece % 8), group = (int32)(piece / 8 % groups), row = (int32)(piece / 8 / groups);
  if (row >= (a.Count ? *a.Count : a.Rows)) return;
  const float *const x = a.X + (int64)(a.Order ? a.Order[row] / a.PerX : row) * a.Cols;
  const int32 column = group * splitColumns + in / 2 * 4 + in % 2;
  uint32 high[4], low[4];
#pragma unroll
  for (int32 t = 0; t < 4; t++) {
    uint32 halves[2], rests[2];
#pragma unroll
    for (int32 e = 0; e < 2; e++) {
      const int32 c = column + 16 * t + 2 * e;
      const float v = c < a.Cols ? x[c] : 0;
      halves[e] = bf16OfFloat(v);
      const float rest = v - floatOfBF16(halves[e]);
      rests[e] = isFinite(rest) ? bf16OfFloat(rest) : 0;
    }
    high[t] = halves[0] | halves[1] << 16, low[t] = rests[0] | rests[1] << 16;
  }
  uint16 *const to = a.Parts + ((int64)group * 2 * a.Room + row) * 64 + (in ^ row % 8) * 8;
  *(Uint32x4 *)to = {{high[0], high[1], high[2], high[3]}};
  *(Uint32x4 *)(to + a.Room * 64) = {{low[0], low[1], low[2], low[3]}};
}
