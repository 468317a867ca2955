// Package kernels holds the kernels that only a draft head has: the input of eh_proj,
// rows taken together, the most likely tokens, and copies between host and device. Each
// file is one kernel, or two that share a source: its arguments, its launch, and its
// twin, which defines what the HIP source of the same name computes.
package kernels
