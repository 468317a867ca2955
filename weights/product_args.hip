// What the kernels of product.hip and product_tiled.hip, which compile apart, have in common.

struct productArgs {
  const float *X;
  float *Y;
  const Segment *Weights;
  int32 Segments, Rows, Out, In;
};
