package main

import "github.com/drafthead/drafthead/hip"

func xorVector(simd hip.SIMD, out *[8]uint64, data *byte, n, ahead int) {
	if simd >= hip.SIMDAVX512 {
		xorAVX512(out, data, n, ahead)
		return
	}
	xorAVX2(out, data, n, ahead)
}
