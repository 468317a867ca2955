// sums[i][j] = Σ_c w[j][c] · x[i][c] for a tile of rows of weights and of x, by warpgroups of an
// NVIDIA GPU: see the prelude. As in tiles.h a weight with its scale is a bfloat16, x two of
// them that leave out |x| · 2^−18, and products are exact; split_rows has split x before. Sums
// are float32: within sumColumns columns in an order of the matrix unit's own, which cuts them
// off, then over these, then over the groups that share the columns.
//
// Weights and x go from memory to shared memory several steps ahead. From there a lane takes
// the weights that it fetched itself, and decodes those of a step while the step before is
// multiplied; x is multiplied where it lies:
//
//	fetch        step 2     step 3     step 4
//	decode       step 1     step 2     step 3
//	multiply     step 0     step 1     step 2
//
//	group 0, 1, …      64 rows of weights each, or 64 rows for several groups that share
//	                   the columns of a step
//	      ×
//	x (shared)         high parts of N rows, 64 columns
//	                   low parts                          for every 64 columns of a step
//
// In which order columns are summed does not matter, as long as both sides agree. Lane 4g + t
// has of every 64 columns 16t … 16t+15, of rows g and g+8 of its wave's 16:
//
//	column 16t + 4q + p + 2e   is column 2t + 8p + e of the 16 of quarter q

#define WARPGROUPS 1
#if defined(HAS_WARPGROUPS)
constexpr int32 sumColumns = 512; // of a group that a matrix unit sums up

// splitRows is rows rows of x as split_rows has split them. splitRoom, in Go, has the same
// number.
struct splitRows {
  const uint8 *parts;
  int32 rows;
  __device__ int64 room() const { return (rows + 7) / 8 * 8 + mostTileRows; }
};

// Warpgroups is how a block divides its work: WarpgroupsOf, in Go, has the same numbers.
template <int32 N_, int32 groups_, int32 split_> struct Warpgroups {
  static constexpr int32 N = N_;                                      // rows of x
  static constexpr int32 groups = groups_, split = split_;            // warpgroups; those that share columns
  static constexpr int32 strips = groups / split, rows = 64 * strips; // of weights
  static constexpr int32 threads = groups * warpgroupThreads;
  static constexpr int32 columns = splitColumns * split;            // of a step
  static constexpr int32 tile = 2 * N * 128, xBytes = split * tile; // of x: of a group's 64 columns, of a step
  static constexpr int32 values = N / 2;                            // of a thread
  static constexpr bool both = N < 128;                             // parts of x are multiplied together, side by side
  static_assert((split - 1) * values * warpgroupThreads * strips * 4 <= warpgroupShared, "sums of groups that share columns fit");
};

// A warpgroup codec has the 16 columns of a row of weights that a lane multiplies as so many
// bytes of shared memory, and decodes the four columns 4q … 4q+3 to two pairs: 4q and 4q+2,
// 4q+1 and 4q+3. What is decoded are weights times both factors. A scale is of so many
// columns; 0 is none.
struct warpgroupBF16 {
  static constexpr int32 bytes = 32, scaleColumns = 0;
  struct factors {
    uint32 first, rest; // a bfloat16, twice; the rest mostly is 1
  };
  static constexpr uint32 one = 0x3f803f80u;
  DEVICE factors factorsOf(uint32) { return {one, one}; }
  DEVICE void decode(uint32 *pairs, const uint8 *from, int32 q, uint32 &) {
    const Uint32x4 &stored = ((const Uint32x4 *)from)[q / 2];
    const uint32 first = stored.at[q % 2 * 2], second = stored.at[q % 2 * 2 + 1];
    pairs[0] = takeBytes(first, second, 0x5410u), pairs[1] = takeBytes(first, second, 0x7632u);
  }
  DEVICE bool isNaN(uint32) { return false; }
  DEVICE float total(const storedRow &, float sum) { return sum; }

  // moved are the factors of an e8m0 scale and 2^exponent: one, but for scales that no model
  // has.
  template <int32 exponent> DEVICE factors moved(uint32 scale) {
    if (scale <= 254 - exponent) return {(scale + exponent) * (0x10001u << 7), one};
    return {(127 + exponent) * (0x10001u << 7), (bitsOfFloat(floatOfE8M0(scale)) >> 16) * 0x10001u};
  }
};

// E4m3 codes and those of four bits are moved to where a bfloat16 has its exponent, as
// floatOfE4M3 and floatOfE2M1 do with those of a float32.
struct warpgroupMXFP8 : warpgroupBF16 {
  static constexpr int32 bytes = 16, scaleColumns = 32;
  DEVICE factors factorsOf(uint32 scale) { return moved<120>(scale); }
  DEVICE void decode(uint32 *pairs, const uint8 *from, int32 q, uint32 &nan) {
    const uint32 codes = ((const Uint32x4 *)from)->at[q];
    nan |= (codes & 0x7f7f7f7fu) + 0x01010101u; // 0x7f carries into the top bit
    pairs[0] = (codes << 8 & 0x80008000u) | (codes << 4 & 0x07f007f0u);
    pairs[1] = (codes & 0x80008000u) | (codes >> 4 & 0x07f007f0u);
  }
  DEVICE bool isNaN(uint32 nan) { return nan & 0x80808080u; }
};
struct warpgroupMXFP4 : warpgroupBF16 {
  static constexpr int32 bytes = 8, scaleColumns = 32;
  DEVICE factors factorsOf(uint32 scale) { return moved<126>(scale); }
  DEVICE void decode(uint32 *pairs, const uint8 *from, int32 q, uint32 &) {
    const uint32 codes = (uint32)(*(const uint64 *)from >> q / 2 * 32);
    const uint32 both = takeBytes(codes, 0, q % 2 == 0 ? 0x4140u : 0x4342u); // two codes in each half
    pairs[0] = (both << 12 & 0x80008000u) | (both << 6 & 0x01c001c0u);
    pairs[1] = (both << 8 & 0x80008000u) | (both << 2 & 0x01c001c0u);
  }
};
struct warpgroupNVFP4 : warpgroupMXFP4 {
  static constexpr int32 scaleColumns = 16;
  DEVICE factors factorsOf(uint32 scale) { // 2^126 in two parts: the scale is up to 448
    return {(bitsOfFloat(floatOfE4M3(scale) * 0x1p118f) >> 16) * 0x10001u, 0x43804380u};
  }
  DEVICE float total(const storedRow &row, float sum) { return sum * row.factor / row.divisor; }
};

// multiplyWarpgroups sets the sums of a thread over the columns of its group: see
// warpgroupMultiply for which they are. weightRow(r) is row r of the tile of weights as it is
// stored, for any r. The rows of x are those that split_rows has split, rows of them, from row
// first on, a multiple of 8. cols is a multiple of 16, and weights are aligned to 16 bytes.
template <class Codec, class Tile, class WeightRow>
DEVICE void multiplyWarpgroups(uint8 *shared, uint64 *arrivals, float *sums, WeightRow weightRow, const splitRows &x, int32 first, int32 cols) {
  constexpr int32 N = Tile::N, values = Tile::values, quarters = 4;
  constexpr int32 stepBytes = Tile::xBytes + 2 * Tile::threads * Codec::bytes, most = warpgroupShared / stepBytes, ring = most < mostSteps ? most : mostSteps;
  static_assert(ring > 2, "a step ahead, and one more");
  const int32 thread = (int32)threadIdx.x, group = thread / warpgroupThreads, part = group % Tile::split;
  const int32 g = (int32)laneIndex() / 4, t = (int32)laneIndex() % 4;
  const int32 low = group / Tile::split * 64 + (int32)waveIndex() % 4 * 16 + g; // of the tile's rows of weights
  const storedRow rows[2] = {weightRow(low), weightRow(low + 8)};
  const int32 steps = ceilDiv(cols, Tile::columns), groups = ceilDiv(cols, splitColumns);
  const int64 room = x.room();

  const auto mine = [&](int32 slot, int32 r) { return shared + slot * stepBytes + Tile::xBytes + (r * Tile::threads + thread) * Codec::bytes; };
  const auto fetch = [&](int32 step, int32 slot) __attribute__((always_inline)) {
    const uint32 at = (uint32)minimum(step * Tile::columns + part * splitColumns + 16 * t, cols - 16) / 16 * Codec::bytes; // after the last, x is 0
#pragma unroll
    for (int32 r = 0; r < 2; r++) {
#pragma unroll
      for (int32 i = 0; i < Codec::bytes; i += 16) copyAsync<Codec::bytes < 16 ? 8 : 16>(mine(slot, r) + i, rows[r].data + at + i);
    }
    if (waveIndex() > 0) return;
    tilesExpect(arrivals + slot, Tile::xBytes);
#pragma unroll
    for (int32 of = 0; of < 2 * Tile::split; of++) { // columns that do not exist are those that do once more: nobody multiplies them
      const int64 row = (int64)(minimum(step * Tile::split + of / 2, groups - 1) * 2 + of % 2) * room + first;
      tilesFetch(arrivals + slot, shared + slot * stepBytes + of * (Tile::tile / 2), x.parts + row * 128, Tile::tile / 2);
    }
  };

  // Four lanes hold 16 scales of a row, 4 each: those of a window of steps.
  constexpr int32 scaleColumns = Codec::scaleColumns > 0 ? Codec::scaleColumns : splitColumns;
  constexpr int32 perGroup = splitColumns / scaleColumns, window = 16 / perGroup / Tile::split; // scales of 64 columns; steps
  uint32 nan[2] = {}, scales[2] = {}, scalesAhead[2] = {};
  const auto loadScales = [&](int32 step) __attribute__((always_inline)) {
    if (Codec::scaleColumns == 0) return;
    const int32 in = step * Tile::split * perGroup + 4 * t, count = ceilDiv(cols, scaleColumns);
#pragma unroll
    for (int32 r = 0; r < 2; r++) {
      const uint8 *from = rows[r].scale;
      if (((uint64)from | (uint64)count) % 4 == 0) {
        scalesAhead[r] = *(const uint32 *)(from + minimum(in, count - 4));
      } else {
        scalesAhead[r] = 0;
#pragma unroll
        for (int32 i = 0; i < 4; i++) scalesAhead[r] |= (uint32)from[minimum(in + i, count - 1)] << 8 * i;
      }
    }
  };
  const auto decode = [&](uint32(*a)[4], int32 step, int32 slot) __attribute__((always_inline)) {
    uint32 scale[2] = {};
    if (Codec::scaleColumns > 0) {
      if (step % window == 0) {
        scales[0] = scalesAhead[0], scales[1] = scalesAhead[1];
        loadScales(step + window);
      }
      const int32 in = (step % window * Tile::split + part) * perGroup + t * perGroup / 4;
#pragma unroll
      for (int32 r = 0; r < 2; r++) scale[r] = shuffle(scales[r], (laneIndex() & ~3u) + (uint32)in / 4) >> in % 4 * 8 & 0xffu;
    }
    typename Codec::factors by[2];
#pragma unroll
    for (int32 r = 0; r < 2; r++) {
      by[r] = Codec::factorsOf(scale[r]);
#pragma unroll
      for (int32 q = 0; q < quarters; q++) {
        uint32 pairs[2];
        Codec::decode(pairs, mine(slot, r), q, nan[r]);
#pragma unroll
        for (int32 p = 0; p < 2; p++) a[q][2 * p + r] = Codec::scaleColumns == 0 ? pairs[p] : scaleBF16(pairs[p], by[r].first);
      }
    }
    if (by[0].rest == Codec::one && by[1].rest == Codec::one) return;
#pragma unroll
    for (int32 q = 0; q < quarters; q++) {
#pragma unroll
      for (int32 i = 0; i < 4; i++) a[q][i] = scaleBF16(a[q][i], by[i % 2].rest);
    }
  };

  float products[Tile::both ? 2 * values : values] = {};
  uint32 parity = 0; // of the rounds of the ring
  const auto multiply = [&](uint32(*a)[4], int32 slot) __attribute__((always_inline)) {
    const uint8 *const tile = shared + slot * stepBytes + part * Tile::tile;
    warpgroupBegin();
#pragma unroll
    for (int32 q = 0; q < quarters; q++) {
      if constexpr (Tile::both) {
        warpgroupMultiply<2 * N>(products, a[q], tile, q);
      } else {
        warpgroupMultiply<N>(products, a[q], tile + Tile::tile / 2, q);
        warpgroupMultiply<N>(products, a[q], tile, q);
      }
    }
    warpgroupEnd();
  };
  // one multiplies a step with a, and decodes the next one to next.
  int32 slot = 0;
  const auto one = [&](int32 step, uint32(*a)[4], uint32(*next)[4]) __attribute__((always_inline)) {
    tilesAwait(arrivals + slot, parity);
    if (part == 0 || step * Tile::split + part < groups) multiply(a, slot);
    // The slot before is free: all have multiplied what was there.
    if (step + ring - 1 < steps) fetch(step + ring - 1, slot == 0 ? ring - 1 : slot - 1);
    copyAsyncEnd();
    slot++;
    if (slot == ring) slot = 0, parity ^= 1;
    copyAsyncWait<ring - 2>();
    if (step + 1 < steps) decode(next, step + 1, slot);
    warpgroupWait<Tile::both ? 2 * values : values>(products);
    if (step % (sumColumns / splitColumns) == sumColumns / splitColumns - 1 || step + 1 == steps) {
#pragma unroll
      for (int32 i = 0; i < values; i++) {
        sums[i] += Tile::both ? products[values + i] + products[i] : products[i];
        products[i] = 0;
        if (Tile::both) products[values + i] = 0;
      }
    }
    __syncthreads();
  };

  tilesInit(arrivals, ring);
  __syncthreads();
#pragma unroll
  for (int32 step = 0; step < ring - 1; step++) {
    if (step < steps) fetch(step, step);
    copyAsyncEnd();
  }
  loadScales(0);
  copyAsyncWait<ring - 2>();
  uint32 even[quarters][4], odd[quarters][4];
  decode(even, 0, 0);
  __syncthreads();
#pragma unroll 1
  for (int32 step = 0; step < steps; step += 2) {
    one(step, even, odd);
    if (step + 1 < steps) one(step + 1, odd, even);
  }
  tilesEnd(arrivals, ring);

#pragma unroll
  for (int32 r = 0; r < 2; r++) {
    nan[r] |= swapLanes(nan[r], 1); // of the lanes that have other columns
    const bool any = Codec::isNaN(nan[r] | swapLanes(nan[r], 2));
#pragma unroll
    for (int32 i = 0; i < values; i++) {
      if (i / 2 % 2 == r) sums[i] = any ? notANumber() : Codec::total(rows[r], sums[i]);
    }
  }
}

// warpgroupSums multiplies weights of one format: row weightRow(r) of the matrix is row r of
// the tile. It calls done(i, r, low, high) for rows first + i of x and rows of weights of the
// tile: low is the sum of rows i and r, high of i and r+8.
template <class Tile, class WeightRow, class Done>
DEVICE void warpgroupSums(uint8 *shared, const Segment *segments, int32 n, WeightRow weightRow, const splitRows &x, int32 first, int32 cols, Done done) {
  uint64 *const arrivals = (uint64 *)(shared + warpgroupShared);
  constexpr int32 values = Tile::values;
  const int32 thread = (int32)threadIdx.x, group = thread / warpgroupThreads, part = group % Tile::split;
  const auto stored = [&](int32 r) {
    const int32 row = weightRow(r);
    return rowOf(segmentOf(segments, n, row), row);
  };
  float sums[values] = {};
  switch (segmentOf(segments, n, weightRow(0))->format) {
  case MXFP8: multiplyWarpgroups<warpgroupMXFP8, Tile>(shared, arrivals, sums, stored, x, first, cols); break;
  case MXFP4: multiplyWarpgroups<warpgroupMXFP4, Tile>(shared, arrivals, sums, stored, x, first, cols); break;
  case NVFP4: multiplyWarpgroups<warpgroupNVFP4, Tile>(shared, arrivals, sums, stored, x, first, cols); break;
  default: multiplyWarpgroups<warpgroupBF16, Tile>(shared, arrivals, sums, stored, x, first, cols);
  }
  if constexpr (Tile::split > 1) { // the first of the groups that share columns adds up
    float *const others = (float *)shared + (group / Tile::split * warpgroupThreads + thread % warpgroupThreads);
    constexpr int32 stride = Tile::strips * warpgroupThreads;
    if (part > 0) {
#pragma unroll
      for (int32 i = 0; i < values; i++) others[((part - 1) * values + i) * stride] = sums[i];
    }
    __syncthreads();
    if (part == 0) {
#pragma unroll
      for (int32 of = 0; of < Tile::split - 1; of++) {
#pragma unroll
        for (int32 i = 0; i < values; i++) sums[i] += others[(of * values + i) * stride];
      }
    }
    __syncthreads();
  }
  if (part > 0) return;
  int32 i = (int32)laneIndex() % 4 * 2, r = group / Tile::split * 64 + (int32)waveIndex() % 4 * 16 + (int32)laneIndex() / 4;
  asm volatile("" : "+r"(i), "+r"(r)); // addresses of results would be kept in registers all the while
#pragma unroll
  for (int32 j = 0; j < Tile::N / 8; j++) {
#pragma unroll
    for (int32 e = 0; e < 2; e++) done(8 * j + i + e, r, sums[4 * j + e], sums[4 * j + 2 + e]);
  }
}

#else
template <int32, int32, int32> struct Warpgroups {};
#endif
