// out[i] = in[i], 16 bytes a thread. One of the two is in host memory, so the time is that
// of one access over the bus. The twin is copyWordsTwin; Go gives copyWordsTile.

struct copyWordsArgs {
  uint32 *Out;
  const uint32 *In;
  int64 N;
};

KERNEL(copyWordsTile / 4) void copy_words(copyWordsArgs a) {
  const int64 first = (int64)blockIdx.x * copyWordsTile + 4 * threadIdx.x;
  if (first + 4 <= a.N) {
    *(Uint32x4 *)(a.Out + first) = *(const Uint32x4 *)(a.In + first);
    return;
  }
  for (int64 i = first; i < a.N; i++) a.Out[i] = a.In[i];
}
