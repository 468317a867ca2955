// Logits of tokens that a mask excludes become −∞. Twin: allowTwin.

struct sampleAllowArgs {
  float *Logits;         // [Rows, Vocab]
  const uint32 *Allowed; // [Masks, Words]
  const int32 *Rows;     // [Masks]
  const int32 *Tokens;   // [Vocab], or none
  int32 LogitRows, Masks, Vocab, Words;
  float Excluded;
  int32 Pad;
};

KERNEL(threads) void sample_allow(sampleAllowArgs a) {
  const int32 parts = ceilDiv(a.Vocab, part);
  const int32 mask = (int32)blockIdx.x / parts, first = (int32)blockIdx.x % parts * part;
  const uint32 *allowed = a.Allowed + (int64)mask * a.Words;
  float *logits = a.Logits + (int64)a.Rows[mask] * a.Vocab;
  const int32 end = minimum(a.Vocab, first + part);
  for (int32 i = first + (int32)threadIdx.x; i < end; i += threads) {
    const int32 token = a.Tokens ? a.Tokens[i] : i;
    if (!(allowed[token / 32] >> (token % 32) & 1)) logits[i] = a.Excluded;
  }
}
