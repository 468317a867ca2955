// Rows of x, rounded to MXFP8: the twin, quantizeMXFP8 of this package, has the rule. A lane
// has one column; 32 lanes find the largest of 32 columns.

struct quantizeMXFP8Args {
  const float *X;
  float *Values;
  uint8 *Codes, *Scales;
  int64 Blocks;
  int64 Cols;
};

struct largerBits {
  DEVICE uint32 of(uint32 a, uint32 b) { return a > b ? a : b; }
};

KERNEL(256) void quantize_mxfp8(quantizeMXFP8Args a) {
  const int64 block = (int64)blockIdx.x * 8 + (int64)(threadIdx.x / 32), perRow = (a.Cols + 31) / 32;
  const int64 row = block / perRow, column = block % perRow * 32 + (int64)(threadIdx.x % 32), at = row * a.Cols + column;
  const bool there = block < a.Blocks && column < a.Cols;
  const float x = there ? a.X[at] : 0;
  const uint32 largest = waveFold<largerBits, 16>(bitsOfFloat(x) & 0x7fffffffu);
  const bool finite = largest < 0x7f800000u;
  const uint32 scale = !finite ? 255 : largest >> 23 < 8 ? 0 : (largest >> 23) - 8;
  const uint8 code = finite ? e4m3OfFloat(x * floatOfE8M0(254 - scale)) : 0x7f;
  if (!there) return;
  a.Codes[at] = code;
  a.Values[at] = floatOfE4M3(code) * floatOfE8M0(scale);
  if (threadIdx.x % 32 == 0) a.Scales[block] = (uint8)scale;
}
