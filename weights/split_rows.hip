// Rows of x as two bfloat16 each, high + low, in the order in which warpgroups multiply them:
// see warpgroup.h, and the prelude for how pieces of 16 bytes are exchanged. The twin is
// splitRowsTwin of this package.

struct splitRowsArgs {
  const float *X;
  const int32 *Order, *Count;
  uint16 *Parts;
  int64 Room, PerX;
  int32 Rows, Cols;
};

// restOf is what a bfloat16 leaves of a float, as another; 0 if that is not finite.
DEVICE uint32 restOf(float v, uint32 rounded) {
  const float rest = v - floatOfBF16(rounded);
  return isFinite(rest) ? bf16OfFloat(rest) : 0;
}

// A thread makes a piece of 8 columns of either part: columns 16t + 4q + p and the one two
// after it, for t from 0 to 3.
KERNEL(splitThreads) void split_rows(splitRowsArgs a) {
  const int32 groups = ceilDiv(a.Cols, splitColumns);
  const int64 piece = (int64)blockIdx.x * splitThreads + (int64)threadIdx.x;
  const int32 in = (int32)(piece % 8), group = (int32)(piece / 8 % groups), row = (int32)(piece / 8 / groups);
  const int32 rows = a.Count ? *a.Count : 0x7fffffff;
  if (row >= minimum(rows, a.Rows)) return;
  const int32 picked = a.Order ? a.Order[row] / (int32)a.PerX : row;
  const float *const x = a.X + (int64)picked * a.Cols;
  const int32 column = group * splitColumns + in / 2 * 4 + in % 2;
  Uint32x4 high, low;
#pragma unroll
  for (int32 t = 0; t < 4; t++) {
    const int32 c = column + 16 * t;
    const float first = c < a.Cols ? x[c] : 0, second = c + 2 < a.Cols ? x[c + 2] : 0;
    const uint32 lower = bf16OfFloat(first), upper = bf16OfFloat(second);
    high.at[t] = lower | upper << 16;
    low.at[t] = restOf(first, lower) | restOf(second, upper) << 16;
  }
  uint16 *const to = a.Parts + ((int64)group * 2 * a.Room + row) * 64 + (in ^ row % 8) * 8;
  *(Uint32x4 *)to = high;
  *(Uint32x4 *)(to + a.Room * 64) = low;
}
