// y[i][j] = Σ_c w[j][c] · x[i][c], where weights stored as MXFP8 multiply x rounded to MXFP8,
// and others x itself. Go instantiates a kernel for each row of the table in
// product_mxfp8.go, which has their twin.

struct productQuantizedArgs {
  const float *X, *Values;      // x, and what its codes stand for
  const uint8 *Codes, *Scales;  // x rounded
  float *Y;
  const Segment *Weights;
  int32 Segments, Rows, Out, In;
};

// productQuantizedRows does one tile of rows of weights and N rows of x in a block, for
// weights that matrix units cannot multiply.
template <int32 N> DEVICE void productQuantizedRows(const productQuantizedArgs &a) {
  __shared__ multiplied m;
  const int32 tiles = ceilDiv(a.Rows, N), row = (int32)blockIdx.x % tiles * N, left = minimum(N, a.Rows - row);
  const int32 first = (int32)blockIdx.x / tiles * multiplyTile, last = minimum(first + multiplyTile, a.Out) - 1;
#pragma unroll 1
  for (int32 start = first, end; start <= last; start = end + 1) {
    end = lastOfFormat(a.Weights, a.Segments, start, last);
    const float *x = segmentOf(a.Weights, a.Segments, start)->format == MXFP8 ? a.Values : a.X;
    for (int32 done = 0, n; done < left; done += n) {
      const auto rowOfX = [&](int32 i) { return x + (int64)(row + done + i) * a.In; };
      n = multiplyFew<N>(&m, a.Weights, a.Segments, start, end - start + 1, rowOfX, left - done, a.In);
      for (int32 k = (int32)threadIdx.x; k < n * multiplyTile; k += multiplyThreads) {
        const int32 i = k / multiplyTile, j = k % multiplyTile;
        if (start + j <= end) a.Y[(int64)(row + done + i) * a.Out + start + j] = m.sums[i][j];
      }
      __syncthreads();
    }
  }
}

// productQuantizedTiles does one tile of rows of weights and of x in a block, on matrix
// units. Tiles of x count fastest, so that the weights that one block reads are still in a
// cache for the next.
template <int32 N> DEVICE void productQuantizedTiles(const productQuantizedArgs &a) {
  typedef Tiling<N> tiling;
  __shared__ tileShared<N> m;
  const int32 tiles = ceilDiv(a.Rows, N);
  const int32 first = (int32)blockIdx.x / tiles * tiling::rows, row = (int32)blockIdx.x % tiles * N;
  const int32 last = minimum(first + tiling::rows, a.Out) - 1, count = minimum(N, a.Rows - row);
  const auto rowOfX = [&](int32 i) { return (int64)minimum(row + i, a.Rows - 1); };
#pragma unroll 1
  for (int32 start = first, end; start <= last; start = end + 1) { // once, unless formats differ within the tile
    end = lastOfFormat(a.Weights, a.Segments, start, last);
    const auto weightRow = [&](int32 j) { return minimum(maximum(first + j, start), end); };
    const auto with = [&](int32 i, int32 j) {
      if (start <= first + j && first + j <= end) a.Y[(int64)(row + i) * a.Out + first + j] = tileSum<N>(&m, i, j);
    };
    if (segmentOf(a.Weights, a.Segments, start)->format == MXFP8) {
      tileSumsOf<N, true>(&m, a.Weights, a.Segments, weightRow, {a.Values, a.Codes, a.Scales}, rowOfX, count, a.In, tiling::rows, with);
    } else {
      tileSumsOf<N, false>(&m, a.Weights, a.Segments, weightRow, {a.X}, rowOfX, count, a.In, tiling::rows, with);
    }
  }
}
