package attention

import (
	"math/bits"
	"slices"
)

// presence is the set of positions at which a layer holds keys. The usual set, 0 … end−1
// without holes, takes no bits.
type presence struct {
	end   int      // one past the last position
	words []uint32 // bit j%32 of word j/32 is position j; nil: no holes
}

// mark adds from … to−1.
func (p *presence) mark(from, to int) {
	if from >= to {
		return
	}
	if p.words == nil && from <= p.end {
		p.end = max(p.end, to)
		return
	}
	if p.words == nil {
		p.words = fillBits(nil, 0, p.end)
	}
	p.words = fillBits(p.words, from, to)
	p.end = max(p.end, to)
	p.compact()
}

// cut removes the positions from n on.
func (p *presence) cut(n int) {
	if n >= p.end {
		return
	}
	if p.words == nil {
		p.end = n
		return
	}
	p.words = p.words[:wordsFor(n)]
	if n%32 != 0 {
		p.words[n/32] &= 1<<(n%32) - 1
	}
	for len(p.words) > 0 && p.words[len(p.words)-1] == 0 {
		p.words = p.words[:len(p.words)-1]
	}
	p.end = 0
	if last := len(p.words) - 1; last >= 0 {
		p.end = 32*last + bits.Len32(p.words[last])
	}
	p.compact()
}

// compact drops the bits when no hole is left.
func (p *presence) compact() {
	if p.contiguous() == p.end {
		p.words = nil
	}
}

// contiguous returns the length of the run that starts at position 0.
func (p *presence) contiguous() int {
	if p.words == nil {
		return p.end
	}
	n := 0
	for _, word := range p.words {
		run := bits.TrailingZeros32(^word)
		n += run
		if run < 32 {
			break
		}
	}
	return n
}

func (p *presence) clone() presence {
	return presence{p.end, slices.Clone(p.words)}
}

// wordsFor returns the number of words that n bits take.
func wordsFor(n int) int { return (n + 31) / 32 }

// fillBits sets the bits from … to−1, growing words as needed.
func fillBits(words []uint32, from, to int) []uint32 {
	if n := wordsFor(to); n > len(words) {
		words = append(words, make([]uint32, n-len(words))...)
	}
	for from < to {
		n := min(to-from, 32-from%32)
		words[from/32] |= uint32(uint64(1)<<n-1) << (from % 32)
		from += n
	}
	return words
}

// anyBit reports whether one of the bits from … to−1 is set. Bits past the end
// of words are not.
func anyBit(words []uint32, from, to int) bool {
	to = min(to, 32*len(words))
	for from < to {
		n := min(to-from, 32-from%32)
		if words[from/32]>>(from%32)&uint32(uint64(1)<<n-1) != 0 {
			return true
		}
		from += n
	}
	return false
}
