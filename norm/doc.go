// Package norm computes Gemma RMSNorm: plain, and fused with the residual addition before
// it. Kernels that normalize as part of something larger take their HIP source from here,
// and the functions of their twins from package vec.
package norm
