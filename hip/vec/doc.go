// Package vec is the vector routines of the host that several rooms share: RMS norms,
// softmax, sums of exponentials, the largest value.
//
// Each takes the level of vector instructions that it may use, which a kernel gets
// from [hip.Blocks.SIMD]; it must be a level of the machine. hip.SIMDNone is plain Go.
// Levels differ in the order of sums, and so in rounding. The functions keep nothing
// and may be called from several goroutines.
package vec
