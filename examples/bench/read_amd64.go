package main

import "github.com/drafthead/drafthead/hip"

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

// xorAVX512 and xorAVX2 write eight words whose exclusive or is that of the n
// bytes at data, n a multiple of xorGroup, and prefetch each line ahead bytes
// before it is read, also behind the end, where that does nothing.
//
//go:noescape
func xorAVX512(out *[8]uint64, data *byte, n, ahead int)

//go:noescape
func xorAVX2(out *[8]uint64, data *byte, n, ahead int)
