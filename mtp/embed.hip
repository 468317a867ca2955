// e = embed[token], or the given embedding, zero where position is 0; out = [ rms(e;
// enorm) | rms(hidden; hnorm) ]: one block per row. Twins: embedNormTwin, gatherTwin.

struct embedNormArgs {
  float *Out, *Masked;
  const float *States, *Embeds;
  const Segment *Table;
  const int32 *Tokens, *Drafted, *Positions;
  const float *EmbedNorm, *HiddenNorm;
  double Eps;
  int64 Drafts;
  int32 Rows, Hidden, Segments, Vocab;
};

KERNEL(256) void embed_norm(embedNormArgs a) {
  __shared__ double waves[256 / waveSize];
  const int64 row = blockIdx.x;
  const int32 n = a.Hidden;
  float *e = a.Out + row * 2 * n; // the row's place is where it is normalized
  if (a.Positions[row] == 0) {
    for (int32 i = (int32)threadIdx.x; i < n; i += (int32)blockDim.x) e[i] = 0;
  } else if (a.Embeds) {
    for (int32 i = (int32)threadIdx.x; i < n; i += (int32)blockDim.x) e[i] = a.Embeds[row * n + i];
  } else {
    const int32 token = a.Tokens[row];
    decodeRow(e, a.Table, a.Segments, token < 0 ? a.Drafted[-1 - token] : token, n);
  }
  // Each thread reads what it wrote itself, here and in rms64.
  if (a.Masked) {
    for (int32 i = (int32)threadIdx.x; i < n; i += (int32)blockDim.x) a.Masked[row * n + i] = e[i];
  }
  rms64(e, e, a.EmbedNorm, n, a.Eps, waves);
  rms64(e + n, a.States + row * n, a.HiddenNorm, n, a.Eps, waves);
}

// out[row] = embed[token of row].
struct gatherArgs {
  float *Out;
  const Segment *Table;
  const int32 *Tokens;
  int32 Rows, Hidden, Segments, Vocab;
};

KERNEL(256) void embed_gather(gatherArgs a) {
  const int64 row = blockIdx.x;
  decodeRow(a.Out + row * a.Hidden, a.Table, a.Segments, a.Tokens[row], a.Hidden);
}
