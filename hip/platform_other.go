//go:build 386 || arm || mips || mipsle || armbe || s390x || ppc64 || mips64 || sparc64

package hip

// Files and kernels are little-endian, and sizes are those of a 64-bit machine: elsewhere
// the library would load what does not fit, or compute something else. So it does not build,
// and says why.
var _ = drafthead_needs_a_64_bit_little_endian_machine
