// Numbers of the kernels that sample. Twins: numbers.go and philox.go.

// samplingParams says how a row is sampled; its twin is Params.
struct samplingParams {
  double Temperature, TopP, MinP, Least;
  uint64 Seed, Stream;
  uint32 First, Index;
  int32 TopK, Flags;
};

// expOf returns e^x for x ≤ 0, the same bits on every device: 0 below −700.
DEVICE double expOf(double x) {
  if (!(x >= -700.0)) return 0.0;
  const int32 k = (int32)fusedMultiplyAdd(x, 1.4426950408889634, -0.5);
  double r = fusedMultiplyAdd((double)-k, 6.93147180369123816490e-01, x);
  r = fusedMultiplyAdd((double)-k, 1.90821492927058770002e-10, r);
  double sum = 1.0; // Horner over Σ r^n/n!
#pragma unroll
  for (int n = 14; n > 0; n--) sum = fusedMultiplyAdd(sum, r * (1.0 / n), 1.0);
  return sum * doubleOfBits((uint64)(1023 + k) << 52);
}

// wholeOf returns the whole number of a weight.
DEVICE uint64 wholeOf(float weight) { return (uint64)((double)weight * 4398046511104.0 + 0.5); }

// keptOf is wholeOf for weights from least on, and 0 below.
DEVICE uint64 keptOf(float weight, float least) { return weight >= least ? wholeOf(weight) : 0; }

// upperProduct returns the upper 64 bits of a·b.
DEVICE uint64 upperProduct(uint64 a, uint64 b) {
  const uint64 al = (uint32)a, ah = a >> 32, bl = (uint32)b, bh = b >> 32;
  const uint64 middle = ah * bl + (al * bl >> 32);
  const uint64 other = al * bh + (uint32)middle;
  return ah * bh + (middle >> 32) + (other >> 32);
}

// randomOf returns 64 random bits: Philox 4×32-10 of the row's key and counter.
DEVICE uint64 randomOf(const samplingParams &p, uint32 purpose) {
  uint32 k0 = (uint32)p.Seed, k1 = (uint32)(p.Seed >> 32);
  uint32 c0 = p.First, c1 = p.Index | purpose << 16, c2 = (uint32)p.Stream, c3 = (uint32)(p.Stream >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64 a = (uint64)0xd2511f53u * c0, b = (uint64)0xcd9e8d57u * c2;
    c0 = (uint32)(b >> 32) ^ c1 ^ k0, c1 = (uint32)b;
    c2 = (uint32)(a >> 32) ^ c3 ^ k1, c3 = (uint32)a;
    k0 += 0x9e3779b9u, k1 += 0xbb67ae85u;
  }
  return (uint64)c1 << 32 | c0;
}

// largestOf makes waveFold find the largest; NaN is above every number.
struct largestOf {
  template <class T> DEVICE T of(T a, T b) { return a != a || a > b ? a : b != b || b > a ? b : a; }
};

// leastOf makes waveFold find the least.
struct leastOf {
  template <class T> DEVICE T of(T a, T b) { return a < b ? a : b; }
};

// blockFold combines a value of every thread of the block. waves is shared memory, one
// value for each wave.
template <class Combine, class T> DEVICE T blockFold(T value, T *waves) {
  value = waveFold<Combine>(value);
  if (laneIndex() == 0) waves[waveIndex()] = value;
  __syncthreads();
  value = waves[0];
  for (uint32 w = 1; w < blockDim.x / waveSize; w++) value = Combine::of(value, waves[w]);
  __syncthreads();
  return value;
}

// topOf returns the largest logit of a row, NaN if one is; every thread of the block reads
// the largest of each part.
DEVICE float topOf(const float *largest, int32 parts) {
  float top = largest[0];
  for (int32 p = 1; p < parts; p++) top = largestOf::of(top, largest[p]);
  return top;
}

// takenOf returns what a token of a list takes from its whole number in a row: the list's
// number times scale, and at most all of it.
DEVICE uint64 takenOf(uint64 whole, float listed, double scale) {
  const double taken = fusedMultiplyAdd((double)wholeOf(listed), scale, 0.5);
  return taken >= (double)whole ? whole : (uint64)taken;
}

// unitOf returns the upper 53 bits as a number from 0 to below 1.
DEVICE double unitOf(uint64 bits) { return (double)(bits >> 11) * 1.1102230246251565e-16; }
