// e = embed[token], or a given embedding, zero where position is 0; out = [ rms(e;
// enorm) | rms(hidden; hnorm) ]: a block for each half of each row. Twins:
// embedNormTwin, gatherTwin.

struct EmbedNormArgs {
  float *Out, *Masked;
  const float *States, *Embeds;
  const Segment *Table;
  const int32 *Tokens, *Drafted, *Positions;
  const float *EmbedNorm, *HiddenNorm;
  double Eps;
  int64 Drafts, EmbedRows;
  int32 Rows, Hidden, Segments, Vocab;
};

// embeddingRow is a row of bfloat16, of values, or of zeros.
struct embeddingRow {
  const uint8 *narrow; // or null; aligned to 8 bytes
  const float *values; // or null
  float *copy;         // where it is written as well, or null

  template <int32 W> __device__ __forceinline__ piece<W> read(uint32 c) const {
    piece<W> p = {};
    if (narrow && W == 1) {
      p.at[0] = floatOfBF16(*(const uint16 *)(narrow + 2 * (uint64)c));
    } else if (narrow) {
      const piece<2> pairs = *(const piece<2> *)(narrow + 2 * (uint64)c);
      for (int32 i = 0; i < W; i++) p.at[i] = floatOfBF16(bitsOfFloat(pairs.at[i / 2 % 2]) >> 16 * (i % 2) & 0xffffu);
    } else if (values) {
      p = pieceAt<W>(values, c);
    }
    if (copy) store(copy, c, p);
    return p;
  }
};

// tokenRow returns the row of a token as it is stored, or decoded to dst if it is not
// aligned bfloat16.
DEVICE embeddingRow tokenRow(float *dst, const Segment *table, int32 segments, int32 token, int32 n) {
  const Segment *s = segmentOf(table, segments, token);
  const uint8 *data = rowOf(s, token).data;
  if (s->format == BF16 && (uint64)data % 8 == 0 && inPieces<4>(dst, n)) return {data, nullptr, nullptr};
  decodeRow(dst, table, segments, token, n);
  __syncthreads(); // threads read what others wrote
  return {nullptr, dst, nullptr};
}

KERNEL(rmsThreads) void embed_norm(EmbedNormArgs a) {
  startNext();
  __shared__ double waves[rmsThreads / waveSize];
  const int64 row = blockIdx.x / 2;
  const int32 n = a.Hidden;
  const bool hidden = blockIdx.x % 2;
  float *dst = a.Out + (int64)blockIdx.x * n;
  const float *w = hidden ? a.HiddenNorm : a.EmbedNorm;
  embeddingRow from = {};
  if (hidden) {
    from.values = a.States + row * n;
  } else {
    if (a.Positions[row] != 0) {
      const int32 token = a.Tokens[row];
      const int64 i = -1 - (int64)token;
      if (i >= a.Drafts) {
        from.values = a.Embeds + (i - a.Drafts) * n;
      } else {
        from = tokenRow(dst, a.Table, a.Segments, i < 0 ? token : a.Drafted[i], n);
      }
    }
    if (a.Masked) from.copy = a.Masked + row * n;
  }
  if (inPieces<4>(dst, n) && inPieces<4>(from.values, n) && inPieces<4>(from.copy, n) && inPieces<4>(w, n)) {
    rmsOfRow<4>(dst, from, w, n, a.Eps, waves);
  } else {
    rmsOfRow<1>(dst, from, w, n, a.Eps, waves);
  }
}

// out[row] = embed[token of row].
struct EmbedGatherArgs {
  float *Out;
  const Segment *Table;
  const int32 *Tokens;
  int32 Rows, Hidden, Segments, Vocab;
};

KERNEL(rmsThreads) void embed_gather(EmbedGatherArgs a) {
  const int64 row = blockIdx.x;
  float *dst = a.Out + row * a.Hidden;
  const embeddingRow from = tokenRow(dst, a.Table, a.Segments, a.Tokens[row], a.Hidden);
  if (!from.narrow) return;
  for (uint32 c = threadIdx.x * 4; c < (uint32)a.Hidden; c += blockDim.x * 4) store(dst, c, from.read<4>(c));
}
