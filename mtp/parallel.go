package mtp

import (
	"fmt"
)

// Shard is one rank's share of a parallel head. The zero Shard is all of it.
type Shard struct {
	Rank, Size int // of this rank, from 0; and the number of ranks
}

// parallel says which share of every parameter a rank holds: see [Options].
type parallel struct {
	tensor, expert Shard

	// The ranks of a group cut the rows of lm_head among all of them and hold embed_tokens
	// whole. In a grid of tensor × expert ranks the experts that are dealt are cut as well.
	group Shard
	grid  bool

	// block is how many columns of the experts share a scale, where equal parts would cut
	// through one: the ranks of a group then hold whole blocks, some one more than others.
	// 0: equal parts.
	block int
}

// parallel returns the share that the options ask for.
func (o *Options) parallel() parallel {
	p := parallel{tensor: o.TensorParallel, expert: o.ExpertParallel}
	if g := o.Group; g != nil {
		p.group = Shard{g.Rank(), g.Size()}
		if p.tensor == (Shard{}) && p.expert == (Shard{}) {
			p.tensor = p.group
		}
		p.grid = max(1, p.tensor.Size)*max(1, p.expert.Size) == g.Size()
	}
	return p
}

// whole reports whether the share is everything.
func (s Shard) whole() bool { return s.Size <= 1 }

// whole reports whether a rank holds all of the head.
func (p parallel) whole() bool { return p.tensor.whole() && p.expert.whole() }

// cut returns the option that leaves a rank less than all of the head, and its share in
// words; empty if it is whole.
func (p parallel) cut() (option, share string) {
	switch {
	case !p.tensor.whole():
		return "TensorParallel", p.tensor.words()
	case !p.expert.whole():
		return "ExpertParallel", p.expert.words()
	}
	return "", ""
}

// words returns the share for errors.
func (s Shard) words() string { return fmt.Sprintf("rank %d of %d", s.Rank, s.Size) }

// check refuses a share unless 0 ≤ Rank < Size, or both are 0.
func (s Shard) check(field string) error {
	if s == (Shard{}) || s.Size >= 1 && s.Rank >= 0 && s.Rank < s.Size {
		return nil
	}
	return &InputError{Op: "mtp: parameters", Field: field, Got: s.words(), Want: "a rank below the number of ranks"}
}

// A cut returns a rank's part, or in words what the number of ranks has to be.

// even cuts n into equal parts; n must be a multiple of the number of ranks.
func (s Shard) even(n int) (part interval, want string) {
	if s.whole() {
		return all(n), ""
	}
	if n%s.Size != 0 {
		return interval{}, "a divisor of"
	}
	each := n / s.Size
	return interval{s.Rank * each, (s.Rank + 1) * each}, ""
}

// replicated cuts n like even while ranks are few; with more ranks than
// parts, each part is held by Size/n neighboring ranks.
func (s Shard) replicated(n int) (part interval, want string) {
	if s.whole() || s.Size <= n {
		return s.even(n)
	}
	if n < 1 || s.Size%n != 0 {
		return interval{}, "a multiple of"
	}
	at := s.Rank / (s.Size / n)
	return interval{at, at + 1}, ""
}

// uneven cuts n parts that need not be equal: the first n mod Size ranks hold
// one more. Whole experts are dealt this way.
func (s Shard) uneven(n int) interval {
	if s.whole() {
		return all(n)
	}
	part, more := n/s.Size, n%s.Size
	first := s.Rank*part + min(s.Rank, more)
	end := first + part
	if s.Rank < more {
		end++
	}
	return interval{first, end}
}

// blocks cuts n into whole blocks, as uneven does; 0 stands for even.
func (s Shard) blocks(n, block int) (part interval, want string) {
	if block == 0 || s.whole() || (n+block-1)/block < s.Size {
		return s.even(n)
	}
	part = times(s.uneven((n+block-1)/block), block)
	return interval{part[0], min(part[1], n)}, ""
}

// vocabPadding: vLLM pads a parallel vocabulary to a multiple of it.
const vocabPadding = 64

// vocabulary cuts n rows padded to a multiple of 64; the last ranks may hold
// fewer rows, or none.
func (s Shard) vocabulary(n int) (part interval, want string) {
	padded, want := s.even((n + vocabPadding - 1) / vocabPadding * vocabPadding)
	if want != "" || s.whole() {
		return all(n), want
	}
	return interval{min(padded[0], n), min(padded[1], n)}, ""
}

// rowPadding: tiles of a product are so many rows.
const rowPadding = 16

// rows cuts n rows of lm_head, in multiples of 16 but for the last ones: later ranks may
// hold fewer, or none.
func (s Shard) rows(n int) interval {
	each := (n + s.Size - 1) / s.Size
	each = (each + rowPadding - 1) / rowPadding * rowPadding
	return interval{min(s.Rank*each, n), min((s.Rank+1)*each, n)}
}

// interval is the half-open interval from its first number to before its second.
type interval [2]int

// Len returns the number of elements.
func (r interval) Len() int { return r[1] - r[0] }
