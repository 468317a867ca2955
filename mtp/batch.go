package mtp

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// Batch is the rows of one call, of one or more sequences. The rows of all
// sequences lie one after the other in Hidden:
//
//	Sequences[0]   row 0   token t₁, position 0, hidden of position 0
//	               row 1   token t₂, position 1, hidden of position 1
//	Sequences[1]   row 2   token u₈, position 7, hidden of position 7
//
// A batch and what it points to are only read, and not kept after the call.
type Batch struct {
	Sequences []Rows

	// Hidden is the previous hidden state of each row: the target's, after its
	// final norm, or at later steps what the step before returned.
	Hidden Hidden

	// Embeds are embeddings to use in place of embed_tokens' rows, for inputs
	// that are no tokens. Not given: those of the tokens. Rows at position 0 are
	// zeroed in either case.
	Embeds Hidden

	// Cache is where the rows with a BlockTable go. With Sequences alone it may
	// be nil.
	Cache *Cache

	// Output is device memory for rows × hidden_size float32. If it is given,
	// Forward leaves the hidden states there and returns Hidden.Device.
	Output hip.Ptr

	// Observe is called with each stage of a Forward, by golden/README.md's
	// names. It costs copies and is meant for comparing implementations.
	Observe func(Stage)
}

// Rows is the rows of one sequence: consecutive positions, one token each.
type Rows struct {
	// Sequence is the sequence that the rows belong to. Position must not be
	// beyond its Len; rows from there on are overwritten.
	Sequence *Sequence

	// BlockTable is the alternative: an engine's own table of the pages of
	// Batch.Cache, up to the last position that is written. The caller answers
	// for all earlier positions having been written, and for pages that belong
	// to several sequences. Such a cache has no Sequences.
	BlockTable []int32

	// Tokens are the tokens AFTER the rows' positions: the row of position p
	// carries token p+1, and the last row the token just sampled.
	Tokens []int32

	// Position is that of the first row.
	Position int
}

// Hidden is rows × hidden_size hidden states, row-major, in exactly one form.
type Hidden struct {
	Float32  []float32
	BFloat16 []uint16 // upper halves of float32

	// Device is memory of the head's device, float32, or bfloat16 if
	// DeviceBFloat16 is set. On a CPU device it is what Adopt or Alloc returned.
	Device         hip.Ptr
	DeviceBFloat16 bool
}

// given tells whether there is anything.
func (h *Hidden) given() bool { return h.Float32 != nil || h.BFloat16 != nil || h.Device != 0 }

// check returns an error unless h has n values in exactly one form.
func (h *Hidden) check(field string, n int) error {
	forms, got := 0, n
	if h.Float32 != nil {
		forms, got = forms+1, len(h.Float32)
	}
	if h.BFloat16 != nil {
		forms, got = forms+1, len(h.BFloat16)
	}
	if h.Device != 0 {
		forms++
	}
	switch {
	case forms != 1:
		return &InputError{Sequence: -1, Field: field, Got: fmt.Sprintf("given in %d forms", forms), Want: "one of Float32, BFloat16, Device"}
	case got != n:
		return &InputError{Sequence: -1, Field: "len(" + field + ")", Got: got, Want: fmt.Sprintf("%d, rows × hidden_size", n)}
	}
	return nil
}

// rows is the number of rows of all sequences.
func (b *Batch) rows() int {
	n := 0
	for i := range b.Sequences {
		n += len(b.Sequences[i].Tokens)
	}
	return n
}

// resolved is a batch that was checked, with the cache it runs on.
type resolved struct {
	*Batch
	cache   *Cache
	total   int   // rows
	lengths []int // Len of each Sequence before the call
}

// check looks at everything that can be known before something is taken.
func (h *Head) check(b *Batch) (*resolved, error) {
	r := &resolved{Batch: b, cache: b.Cache, total: b.rows()}
	if len(b.Sequences) == 0 {
		return nil, &InputError{Sequence: -1, Field: "Sequences", Got: "empty", Want: "at least one"}
	}
	seen := make(map[*Sequence]int, len(b.Sequences))
	for i := range b.Sequences {
		s := &b.Sequences[i]
		if err := h.checkRows(r, i, s); err != nil {
			return nil, err
		}
		length := 0
		if s.Sequence != nil {
			if first, twice := seen[s.Sequence]; twice {
				return nil, &InputError{Sequence: i, Field: "Sequence", Got: fmt.Sprintf("that of sequence %d", first), Want: "each once"}
			}
			seen[s.Sequence], length = i, s.Sequence.Len()
		}
		r.lengths = append(r.lengths, length)
	}
	n := r.total * h.config.HiddenSize
	if err := b.Hidden.check("Hidden", n); err != nil {
		return nil, err
	}
	if b.Embeds.given() {
		if err := b.Embeds.check("Embeds", n); err != nil {
			return nil, err
		}
	}
	return r, r.claim()
}

// claim settles who hands out the pages of the batch's cache.
func (r *resolved) claim() error {
	for i := range r.Sequences {
		pager, field := pagerSequences, "Sequence"
		if r.Sequences[i].Sequence == nil {
			pager, field = pagerEngine, "BlockTable"
		}
		if !r.cache.claim(pager) {
			return &InputError{Sequence: i, Field: field, Got: "given", Want: "what the cache was used with before: Sequences or BlockTables, not both"}
		}
	}
	return nil
}

func (h *Head) checkRows(r *resolved, i int, s *Rows) error {
	bad := func(field string, got any, want string, err error) error {
		return &InputError{Sequence: i, Field: field, Got: got, Want: want, Err: err}
	}
	cache := r.Batch.Cache
	switch {
	case (s.Sequence == nil) == (s.BlockTable == nil):
		return bad("Sequence and BlockTable", "given both or neither", "one of them", nil)
	case s.Sequence != nil:
		cache = s.Sequence.cache
	case cache == nil:
		return bad("Batch.Cache", "nil", "the cache of the BlockTable's pages", nil)
	}
	switch {
	case s.Sequence != nil && s.Sequence.closed:
		return bad("Sequence", "closed", "an open one", ErrClosed)
	case cache.head != h:
		return bad("cache", "another head's", "one of this head", nil)
	case cache.closed:
		return bad("cache", "closed", "an open one", ErrClosed)
	case r.cache != nil && r.cache != cache:
		return bad("cache", "another than the sequences before", "one cache in a batch", nil)
	}
	r.cache = cache
	if len(s.Tokens) == 0 {
		return bad("Tokens", "empty", "at least one", nil)
	}
	for j, t := range s.Tokens {
		if t < 0 || int(t) >= h.config.VocabSize {
			return bad(fmt.Sprintf("Tokens[%d]", j), t, fmt.Sprintf("0 to %d", h.config.VocabSize-1), ErrToken)
		}
	}
	if s.Position < 0 {
		return bad("Position", s.Position, "at least 0", nil)
	}
	if s.Sequence != nil && s.Position > s.Sequence.Len() {
		return bad("Position", s.Position, fmt.Sprintf("at most %d, the rows that the sequence has", s.Sequence.Len()), nil)
	}
	return nil
}
