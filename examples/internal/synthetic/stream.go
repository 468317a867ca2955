package synthetic

import (
	"encoding/binary"
	"hash/fnv"
)

// wordSize is the bytes of a tensor that one random number makes.
const wordSize = 8

// stream is the contents of one tensor: words of 8 bytes, of which any can be
// made without those before it.
//
//	word i    random = splitmix64(key, i), 64 bits
//	          ┌────┬────┬────┬────┬────┬────┬────┬────┐
//	width 1   │ 8 bits pick one of 256 codes, 8 times │
//	width 2   │ 12 of 16 bits pick one of 4096, 4 ×   │
//	width 4   │ 12 of 32 bits pick one of 4096, 2 ×   │
//	          └────┴────┴────┴────┴────┴────┴────┴────┘
//
// A table of codes holds the quantiles of a distribution, so that an even choice
// from it has that distribution. Values lie within 2.9 (of 256) or 3.7 (of 4096)
// standard deviations. A stream is read only and safe for concurrent use.
type stream struct {
	key     uint64
	bytes   *[256]uint8
	halves  *[4096]uint16
	singles *[4096]uint32
}

// streamKey returns the key of a tensor: every tensor of every seed has its own.
func streamKey(seed uint64, tensor string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(tensor)) // never fails
	return mix(mix(seed) ^ h.Sum64())
}

// increment is the step of splitmix64's state: 2^64 over the golden ratio.
const increment = 0x9e3779b97f4a7c15

// mix is the output function of splitmix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// readAt fills p with the bytes from offset off of the endless stream.
func (s *stream) readAt(p []byte, off int64) {
	first := uint64(off) / wordSize
	var word [wordSize]byte
	if skip := off % wordSize; skip > 0 {
		s.fill(word[:], first)
		n := copy(p, word[skip:])
		p, first = p[n:], first+1
	}
	whole := len(p) / wordSize * wordSize
	s.fill(p[:whole], first)
	if rest := p[whole:]; len(rest) > 0 {
		s.fill(word[:], first+uint64(whole/wordSize))
		copy(rest, word[:])
	}
}

// fill makes whole words, the first of which has number first.
func (s *stream) fill(p []byte, first uint64) {
	state := s.key + first*increment
	switch {
	case s.bytes != nil:
		for ; len(p) >= wordSize; p = p[wordSize:] {
			r, t := mix(state), s.bytes
			low := uint32(t[r&255]) | uint32(t[r>>8&255])<<8 | uint32(t[r>>16&255])<<16 | uint32(t[r>>24&255])<<24
			high := uint32(t[r>>32&255]) | uint32(t[r>>40&255])<<8 | uint32(t[r>>48&255])<<16 | uint32(t[r>>56])<<24
			binary.LittleEndian.PutUint64(p, uint64(low)|uint64(high)<<32)
			state += increment
		}
	case s.halves != nil:
		for ; len(p) >= wordSize; p = p[wordSize:] {
			r, t := mix(state), s.halves
			low := uint32(t[r&4095]) | uint32(t[r>>16&4095])<<16
			high := uint32(t[r>>32&4095]) | uint32(t[r>>48&4095])<<16
			binary.LittleEndian.PutUint64(p, uint64(low)|uint64(high)<<32)
			state += increment
		}
	default:
		for ; len(p) >= wordSize; p = p[wordSize:] {
			r, t := mix(state), s.singles
			binary.LittleEndian.PutUint64(p, uint64(t[r&4095])|uint64(t[r>>32&4095])<<32)
			state += increment
		}
	}
}
