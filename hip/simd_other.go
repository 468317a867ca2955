//go:build !amd64

package hip

func bestSIMD() SIMD { return SIMDNone }
