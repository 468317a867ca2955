// Package vec has the vector routines of the host that several packages share: RMS norms,
// softmax, sums of exponentials, the largest value, SwiGLU.
//
// Each function takes the level of vector instructions that it may use, which a kernel gets
// from [hip.Blocks.SIMD]; the machine must have it. hip.SIMDNone is plain Go. Levels differ
// in the order of sums, and so in rounding. The functions keep no state and may be called
// from several goroutines.
package vec
