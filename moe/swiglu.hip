// act = g · sigmoid(alpha · g) · (u + beta), g = min(gate, limit), u = clamp(up, ±limit):
// swiGLU of this package, in float64 except for the exponential, rounded once. A NaN
// stays: comparisons with it are false.
struct swiGLU {
  double alpha, limit, beta;

  __device__ float activate(float gate, float up) const {
    double g = gate, u = up;
    if (g > limit) g = limit;
    if (u > limit) u = limit;
    if (u < -limit) u = -limit;
    return (float)(g * (1 / (1 + exp64(-alpha * g))) * (u + beta));
  }
};
