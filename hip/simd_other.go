//go:build !amd64 && !arm64

package hip

const leastSIMD = SIMDAVX2

func bestSIMD() SIMD { return SIMDNone }
