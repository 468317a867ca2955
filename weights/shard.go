package weights

import (
	"fmt"
	"strconv"

	"github.com/drafthead/drafthead/hip"
)

// Shard is one rank's share of a parallel head. The zero Shard is all of it.
type Shard struct {
	Rank, Size int
}

// Whole reports whether the share is everything.
func (s Shard) Whole() bool { return s.Size <= 1 }

// Check returns a [*hip.InputError] unless 0 ≤ Rank < Size, or both are 0.
func (s Shard) Check() error {
	if s == (Shard{}) || s.Size >= 1 && s.Rank >= 0 && s.Rank < s.Size {
		return nil
	}
	return &hip.InputError{Op: "weights: shard", Field: "Rank", Got: fmt.Sprintf("rank %d of %d", s.Rank, s.Size), Want: "0 to one less than Size"}
}

// uncut says that n cannot be dealt to the ranks.
func (s Shard) uncut(n int, want string) error {
	return &hip.InputError{Op: "weights: shard", Field: "Size", Got: fmt.Sprintf("%d ranks", s.Size), Want: want + " " + strconv.Itoa(n)}
}

// Parallel says which share of every parameter a rank holds, as vLLM cuts them.
//
// Tensor parallel: attention heads, and KV heads with their index heads, which
// are held by several ranks where there are more ranks than KV heads; rows of
// gate and up and columns of down projections; rows of the vocabulary.
// Expert parallel: whole experts; the routed experts are then not cut by Tensor.
// Norms, eh_proj, the router and the one index key are held by every rank.
type Parallel struct {
	Tensor, Expert Shard
}

// Range is the half-open interval [First, End).
type Range struct{ First, End int }

// Len returns the number of elements.
func (r Range) Len() int { return r.End - r.First }

// within reports whether r is a part of [0, n), or empty in it.
func (r Range) within(n int) bool { return 0 <= r.First && r.First <= r.End && r.End <= n }

// Even cuts n into equal parts; n must be a multiple of the number of ranks.
func (s Shard) Even(n int) (Range, error) {
	if s.Whole() {
		return Range{End: n}, nil
	}
	if n%s.Size != 0 {
		return Range{}, s.uncut(n, "a divisor of")
	}
	part := n / s.Size
	return Range{s.Rank * part, (s.Rank + 1) * part}, nil
}

// Replicated cuts n like [Shard.Even] while ranks are few; with more ranks than
// parts, each part is held by Size/n neighboring ranks.
func (s Shard) Replicated(n int) (Range, error) {
	if s.Whole() || s.Size <= n {
		return s.Even(n)
	}
	if n < 1 || s.Size%n != 0 {
		return Range{}, s.uncut(n, "a multiple of")
	}
	part := s.Rank / (s.Size / n)
	return Range{part, part + 1}, nil
}

// Uneven cuts n parts that need not be equal: the first n mod Size ranks hold
// one more. Whole experts are dealt this way.
func (s Shard) Uneven(n int) Range {
	if s.Whole() {
		return Range{End: n}
	}
	part, more := n/s.Size, n%s.Size
	first := s.Rank*part + min(s.Rank, more)
	end := first + part
	if s.Rank < more {
		end++
	}
	return Range{first, end}
}

// vocabPadding is what vLLM pads a parallel vocabulary to a multiple of.
const vocabPadding = 64

// Vocabulary cuts n rows padded to a multiple of 64; the last ranks may hold
// fewer rows, or none.
func (s Shard) Vocabulary(n int) (Range, error) {
	padded, err := s.Even(ceilDiv(n, vocabPadding) * vocabPadding)
	if err != nil || s.Whole() {
		return Range{End: n}, err
	}
	return Range{min(padded.First, n), min(padded.End, n)}, nil
}
