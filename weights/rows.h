// value[row][c] = decode(stored[row][c]) · scale: the rows of a Matrix as kernels
// read them. Twins: Segment, Rows and Format of this package, in Go, which gives the
// numbers of the formats.

struct Segment {
  const GLOBAL uint8 *data, *scale; // aligned to nothing
  int64 rowStride, scaleStride;
  int32 first, rows, format, scaleRow;
  float factor, divisor; // of NVFP4
};

// segmentOf returns the segment that holds a row. Segments of equal size, as the
// experts of a mixture are, are found without a search.
DEVICE const Segment *segmentOf(const Segment *segments, int32 n, int32 row) {
  int32 low = minimum(row / segments[0].rows, n - 1);
  if (segments[low].first <= row && row - segments[low].first < segments[low].rows) return segments + low;
  low = 0;
  for (int32 high = n; high - low > 1;) { // segments[low].first ≤ row < segments[high].first
    const int32 middle = low + (high - low) / 2;
    if (segments[middle].first <= row) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return segments + low;
}

// floatOfF16 widens an IEEE binary16, exactly. Its bits, moved to those of a
// float32, are the value times 2^−112, subnormals included.
DEVICE float floatOfF16(uint32 half) {
  uint32 bits = bitsOfFloat(floatOfBits((half & 0x7fffu) << 13) * 0x1p112f);
  if ((half & 0x7c00u) == 0x7c00u) bits = 0x7f800000u | (half & 0x3ffu) << 13; // infinity and NaN
  return floatOfBits(bits | (half & 0x8000u) << 16);
}

// f16OfFloat rounds to an IEEE binary16, to nearest even.
DEVICE uint32 f16OfFloat(float v) {
  const uint32 bits = bitsOfFloat(v), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return 0x7e00u;        // NaN
  if (size >= 0x477ff000u) return sign | 0x7c00u; // to infinity, from 65520 on
  if (size < 0x38800000u) return sign | (bitsOfFloat(floatOfBits(size) * 0x1p24f + 0x1p23f) - 0x4b000000u); // subnormal
  return sign | (size - 0x38000000u + 0xfffu + (size >> 13 & 1u)) >> 13;
}

// floatOfE8M0 decodes a scale code s: 2^(s−127), NaN for 255, subnormal for 0.
DEVICE float floatOfE8M0(uint32 code) {
  if (code == 255) return notANumber();
  return floatOfBits(code == 0 ? 1u << 22 : code << 23);
}

// floatOfE2M1 decodes a code of four bits. Its bits, moved to those of a float32, are the
// value times 2^−126, subnormals included.
DEVICE float floatOfE2M1(uint32 code) { return floatOfBits((code & 8u) << 28 | (code & 7u) << 22) * 0x1p126f; }

DEVICE uint32 unaligned16(const uint8 *p) { return p[0] | (uint32)p[1] << 8; }
DEVICE uint32 unaligned32(const uint8 *p) { return unaligned16(p) | unaligned16(p + 2) << 16; }

// storedRow is one row of a segment.
struct storedRow {
  const uint8 *data, *scale;
  float factor, divisor;
};

DEVICE storedRow rowOf(const Segment *s, int32 row) {
  const int64 in = row - s->first;
  const bool perRow = s->format == MXFP8 || s->format == INT8 || s->format == MXFP4 || s->format == NVFP4;
  const int64 scaleRow = perRow ? s->scaleRow + in : (s->scaleRow + in) / 128;
  return {(const uint8 *)s->data + in * s->rowStride, (const uint8 *)s->scale + scaleRow * s->scaleStride, s->factor, s->divisor};
}

// valueAt decodes one value of a row, whatever its alignment.
DEVICE float valueAt(storedRow row, int32 format, int32 c) {
  switch (format) {
  case F32: return floatOfBits(unaligned32(row.data + 4 * (int64)c));
  case F16: return floatOfF16(unaligned16(row.data + 2 * (int64)c));
  case BF16: return floatOfBF16(unaligned16(row.data + 2 * (int64)c));
  case MXFP8: return floatOfE4M3(row.data[c]) * floatOfE8M0(row.scale[c / 32]);
  case FP8F32: return floatOfE4M3(row.data[c]) * floatOfBits(unaligned32(row.scale + 4 * (c / 128)));
  case FP8BF16: return floatOfE4M3(row.data[c]) * floatOfBF16(unaligned16(row.scale + 2 * (c / 128)));
  case INT8: return (float)(int8)row.data[c] * floatOfBF16(unaligned16(row.scale + 2 * (c / 32)));
  case MXFP4: return floatOfE2M1(row.data[c / 2] >> 4 * (c % 2)) * floatOfE8M0(row.scale[c / 32]);
  case NVFP4: return floatOfE2M1(row.data[c / 2] >> 4 * (c % 2)) * floatOfE4M3(row.scale[c / 16]) * row.factor / row.divisor;
  default: return notANumber();
  }
}

// decodeRow sets dst to the values of one row of a matrix, by all threads of the
// block: thread t writes t, t + blockDim, ….
DEVICE void decodeRow(float *dst, const Segment *segments, int32 n, int32 row, int32 cols) {
  const Segment *s = segmentOf(segments, n, row);
  const storedRow stored = rowOf(s, row);
  for (int32 c = (int32)threadIdx.x; c < cols; c += (int32)blockDim.x) dst[c] = valueAt(stored, s->format, c);
}
