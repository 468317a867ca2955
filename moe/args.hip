// What kernels for few rows and for many, which compile apart, have in common: arguments of
// the experts and of the shared expert.

struct expertsArgs {
  const float *X;
  float *Y;
  const Segment *Weights;
  const int32 *Offsets, *Order, *Active, *ActiveCount;
  double Alpha, Limit, Beta;
  int32 Segments, Pairs, PairsPerX, Experts, In, Out;
};

struct gateUpSwiGLUArgs {
  const float *X;
  float *Y;
  const Segment *Weights;
  double Alpha, Limit, Beta;
  int32 Segments, Rows, In, Out;
};
