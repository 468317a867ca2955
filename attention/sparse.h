// What the kernels of sparse attention share.

struct sparseArgs {
  const float *Q;
  const void *Keys, *Values;
  const int32 *Selected, *Batch;
  float *Out, *Parts;
  int64 Stride;
  int32 Rows, Sequences, TableEntries, PresenceWords;
  int32 Heads, KVHeads, HeadDim, BlockSize;
  int32 TopkBlocks, HeadTile, Tiles, Format;
};

// sparseTile is up to HeadTile query heads of a KV head, of one row.
struct sparseTile {
  int32 row, kv;
  int32 head, heads; // the first, and how many
  const float *q;
  const int32 *selected;
};

// tileOf returns tile i, where those of a KV head follow each other, and those of a row.
DEVICE sparseTile tileOf(const sparseArgs &a, int32 i) {
  const int32 group = a.Heads / a.KVHeads, from = i % a.Tiles * a.HeadTile;
  sparseTile t;
  t.row = i / a.Tiles / a.KVHeads, t.kv = i / a.Tiles % a.KVHeads;
  t.head = t.kv * group + from, t.heads = minimum(a.HeadTile, group - from);
  t.q = a.Q + t.row * a.Stride + (int64)t.head * a.HeadDim;
  t.selected = a.Selected + ((int64)t.row * a.KVHeads + t.kv) * a.TopkBlocks;
  return t;
}
