// The kernels of sparse attention share this.

struct sparseArgs {
  const float *Q;
  const void *Keys, *Values;
  const int32 *Selected, *Batch;
  float *Out, *Parts;
  int64 Stride;
  int32 Rows, Sequences, TableEntries, PresenceWords;
  int32 Heads, KVHeads, HeadDim, BlockSize;
  int32 TopkBlocks, BundleHeads, Bundles, Format;
  float KeyScale, ValueScale;

  // scoreScale is what a stored key's product with a query is multiplied by.
  __device__ float scoreScale() const { return (float)(KeyScale / squareRoot((double)HeadDim)); }
};

// headBundle is up to BundleHeads query heads of a KV head, of one row.
struct headBundle {
  int32 row, kv;
  int32 head, heads; // the first, and how many
  const float *q;
  const int32 *selected; // null: all blocks

  // block returns the k-th block that the heads attend to, below 0: none.
  __device__ int32 block(int32 k) const { return selected ? selected[k] : k; }
};

// bundleOf returns bundle i, where those of a KV head follow each other, and those of a row.
DEVICE headBundle bundleOf(const sparseArgs &a, int32 i) {
  const int32 group = a.Heads / a.KVHeads, from = i % a.Bundles * a.BundleHeads;
  headBundle t;
  t.row = i / a.Bundles / a.KVHeads, t.kv = i / a.Bundles % a.KVHeads;
  t.head = t.kv * group + from, t.heads = minimum(a.BundleHeads, group - from);
  t.q = a.Q + t.row * a.Stride + (int64)t.head * a.HeadDim;
  t.selected = a.Selected ? a.Selected + ((int64)t.row * a.KVHeads + t.kv) * a.TopkBlocks : nullptr;
  return t;
}
