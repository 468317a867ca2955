package main

import (
	"encoding/binary"

	"github.com/drafthead/drafthead/hip"
)

// read is plain reading, the least that any work over weights has to do: the
// exclusive or of the 8-byte little-endian words of each block of memory,
//
//	out[b] = word₀ ⊕ word₁ ⊕ …     over data[b·readBlock … (b+1)·readBlock)
//
// where a last word that is cut off is filled up with zeros.
var read = hip.NewKernel("bench_read", "", readTwin).Fast(0, readHost)

type readArgs struct {
	Data  hip.Ptr // [Bytes]
	Out   hip.Ptr // [blocks] uint64, written
	Bytes int64
	Ahead int64 // bytes from what is read to what is prefetched; the twin does not
}

// readBlock is the bytes that one block of the launch reads: some microseconds'
// worth, with the blocks of one thread's part end to end.
const readBlock = 256 << 10

func readBlocks(bytes int64) int { return int((bytes + readBlock - 1) / readBlock) }

func launchRead(d hip.Device, a *readArgs) error {
	return read.Launch(d, hip.Grid{Blocks: readBlocks(a.Bytes), Threads: 256, BlockCost: readBlock}, a)
}

func readTwin(b *hip.Blocks, a *readArgs) {
	eachReadBlock(b, a, xorWords)
}

func readHost(b *hip.Blocks, a *readArgs) {
	simd := b.SIMD()
	eachReadBlock(b, a, func(data []byte) uint64 { return xorFast(data, int(a.Ahead), simd) })
}

func eachReadBlock(b *hip.Blocks, a *readArgs, xor func(data []byte) uint64) {
	for block := b.First; block < b.End; block++ {
		first := int64(block) * readBlock
		data := hip.In[byte](b, a.Data.Add(first), int(min(readBlock, a.Bytes-first)))
		hip.Out[uint64](b, a.Out.Add(int64(block)*8), 1)[0] = xor(data)
	}
}

func xorWords(data []byte) uint64 {
	var x0, x1, x2, x3 uint64
	for ; len(data) >= 32; data = data[32:] {
		x0 ^= binary.LittleEndian.Uint64(data)
		x1 ^= binary.LittleEndian.Uint64(data[8:])
		x2 ^= binary.LittleEndian.Uint64(data[16:])
		x3 ^= binary.LittleEndian.Uint64(data[24:])
	}
	for ; len(data) >= 8; data = data[8:] {
		x0 ^= binary.LittleEndian.Uint64(data)
	}
	var last [8]byte
	copy(last[:], data)
	return x0 ^ x1 ^ x2 ^ x3 ^ binary.LittleEndian.Uint64(last[:])
}
