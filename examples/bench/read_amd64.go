package main

import "github.com/drafthead/drafthead/hip"

//go:generate go run ../../hip/internal/asmgen bench

// xorGroup is what the vector loops read in one turn.
const xorGroup = 512

// xorFast is xorWords with the vector instructions of the level.
func xorFast(data []byte, ahead int, simd hip.SIMD) uint64 {
	whole := len(data) / xorGroup * xorGroup
	if simd < hip.SIMDAVX2 || whole == 0 {
		return xorWords(data)
	}
	var out [8]uint64
	if simd >= hip.SIMDAVX512 {
		xorAVX512(&out, &data[0], whole, ahead)
	} else {
		xorAVX2(&out, &data[0], whole, ahead)
	}
	sum := xorWords(data[whole:])
	for _, x := range out {
		sum ^= x
	}
	return sum
}
