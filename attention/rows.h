// keys(row, block) = clamp(position + 1 − block·BlockSize, 0, BlockSize). A presence bit
// may say that one of them does not exist. Twins: rowsView and rowContext.

// batchView is a Batch in device memory.
struct batchView {
  const int32 *positions, *sequences, *slots, *tableOffsets, *presenceOffsets, *tables;
  const uint32 *presence;
};

// viewBatch lays a Batch out: rows, rows, rows, sequences, sequences, tables, presence.
DEVICE batchView viewBatch(const int32 *batch, int32 rows, int32 sequences, int32 tables) {
  batchView v;
  v.positions = batch;
  v.sequences = v.positions + rows;
  v.slots = v.sequences + rows;
  v.tableOffsets = v.slots + rows;
  v.presenceOffsets = v.tableOffsets + sequences;
  v.tables = v.presenceOffsets + sequences;
  v.presence = (const uint32 *)(v.tables + tables);
  return v;
}

// rowContext is the keys that a row may attend to.
struct rowContext {
  int32 position;
  const int32 *table;
  const uint32 *presence; // null: no holes

  __device__ int32 keys(int32 block, int32 size) const {
    const int64 n = (int64)position + 1 - (int64)block * size;
    return n < 0 ? 0 : (int32)minimum(n, (int64)size);
  }
  __device__ bool present(int64 j) const { return !presence || (presence[j / 32] >> (j % 32) & 1u); }

  // visible reports whether the block holds a key that the row may attend to.
  __device__ bool visible(int32 block, int32 size) const {
    int64 from = (int64)block * size;
    const int64 to = from + keys(block, size);
    if (!presence) return from < to;
    while (from < to) {
      const int32 bit = (int32)(from % 32);
      const int32 n = (int32)minimum(to - from, (int64)(32 - bit));
      if (presence[from / 32] >> bit & (uint32)(((uint64)1 << n) - 1)) return true;
      from += n;
    }
    return false;
  }
};

DEVICE rowContext contextOf(const batchView &v, int32 row) {
  const int32 s = v.sequences[row], holes = v.presenceOffsets[s];
  return {v.positions[row], v.tables + v.tableOffsets[s], holes < 0 ? nullptr : v.presence + holes};
}

// A cache holds elements of bfloat16, float32 or e4m3; Go gives cacheBF16, cacheF32 and
// cacheFP8. Only e4m3 is stored by a scale, and cached returns it without.
DEVICE float cached(const void *cache, int32 format, int64 index) {
  if (format == cacheFP8) return floatOfE4M3(((const uint8 *)cache)[index]);
  return format == cacheBF16 ? floatOfBF16(((const uint16 *)cache)[index]) : ((const float *)cache)[index];
}

DEVICE void store(void *cache, int32 format, int64 index, float value, float scale) {
  if (format == cacheBF16) {
    ((uint16 *)cache)[index] = bf16OfFloat(value);
  } else if (format == cacheFP8) {
    ((uint8 *)cache)[index] = e4m3OfFloat(value / scale);
  } else {
    ((float *)cache)[index] = value;
  }
}

// larger returns the larger value, or NaN if one of the two is NaN.
DEVICE float larger(float a, float b) { return a != a || a > b ? a : b; }
struct keepingLarger {
  DEVICE float of(float a, float b) { return larger(a, b); }
};
