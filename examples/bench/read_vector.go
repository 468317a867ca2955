//go:build amd64 || arm64

package main

import "github.com/drafthead/drafthead/hip"

//go:generate go run ../../hip/internal/asmgen bench

// xorGroup is what the vector loops read in one turn.
const xorGroup = 512

// xorFast is xorWords with the vector instructions of the level.
func xorFast(data []byte, ahead int, simd hip.SIMD) uint64 {
	whole := len(data) / xorGroup * xorGroup
	if simd == hip.SIMDNone || whole == 0 {
		return xorWords(data)
	}
	var out [8]uint64
	xorVector(simd, &out, &data[0], whole, ahead)
	sum := xorWords(data[whole:])
	for _, x := range out {
		sum ^= x
	}
	return sum
}
