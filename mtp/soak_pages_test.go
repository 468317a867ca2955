package mtp_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/drafthead/drafthead/mtp"
)

func (w *soaker) reserve(context.Context) error {
	_, err := w.full(w.talk(soakRows).seq.Reserve(w.random.IntN(12)))
	return err
}

// truncate goes back to a row, and on with another passage that begins alike.
func (w *soaker) truncate(context.Context) error {
	x := w.talk(math.MaxInt)
	n := w.random.IntN(x.rows + 1)
	x.rows, x.text = n, w.continuation(x.text, n)
	return x.seq.Truncate(n)
}

// fork goes on twice, with another passage if one begins alike.
func (w *soaker) fork(context.Context) error {
	x := w.talk(math.MaxInt)
	seq, err := x.seq.Fork()
	if err != nil {
		return err
	}
	if len(w.talks) == soakTalks {
		if err := w.drop(w.random.IntN(len(w.talks))); err != nil {
			return err
		}
	}
	w.talks = append(w.talks, &talk{seq, w.continuation(x.text, x.rows), x.rows})
	return nil
}

// commit runs the first n rows of a sequence's passage in pieces, without drafts.
func (w *soaker) commit(ctx context.Context, x *talk, n int) error {
	for x.rows < n {
		b := w.input(false, x, x.seq.Resume(), 1+w.random.IntN(n-x.rows))
		drafts, err := w.head.Draft(ctx, b)
		if full, err := w.full(err); full || err != nil {
			return err
		}
		if err := w.drafted(b, []*talk{x}, drafts); err != nil {
			return err
		}
	}
	return nil
}

// preempt gives the pages of a sequence back and computes its rows anew.
func (w *soaker) preempt(ctx context.Context) error {
	x := w.talk(math.MaxInt)
	if err := x.seq.Close(); err != nil {
		return err
	}
	if err := x.seq.Reserve(1); !errors.Is(err, mtp.ErrClosed) {
		return fmt.Errorf("a closed sequence says %w", err)
	}
	n := x.rows
	x.seq, x.rows = w.cache.NewSequence(), 0
	return w.commit(ctx, x, n)
}

func (w *soaker) close(context.Context) error {
	x := w.talk(math.MaxInt)
	return w.drop(slices.Index(w.talks, x))
}

// otherCache moves to a cache of the worker's own, with room for all its sequences, or back
// to the shared one. The cache that it leaves closes before or after its sequences.
func (w *soaker) otherCache(ctx context.Context) error {
	old, talks := w.cache, w.talks
	own := old != w.soak.cache
	w.cache, w.talks = w.soak.cache, nil
	if !own {
		const pages = (soakTalks + 2) * (soakRows + soakDrafts + 2*blockSize) / blockSize
		cache, err := w.head.NewCache(pages)
		if err != nil {
			return err
		}
		w.cache = cache
	}
	first := w.random.IntN(2) == 0
	if own && first {
		if err := old.Close(); err != nil {
			return err
		}
	}
	for _, x := range talks {
		if err := x.seq.Close(); err != nil {
			return err
		}
	}
	if own && !first {
		if free := old.FreePages(); free != old.Pages() {
			return fmt.Errorf("%d of %d pages are free with no sequence left", free, old.Pages())
		}
		if err := old.Close(); err != nil {
			return err
		}
	}
	for _, x := range talks[:min(2, len(talks))] {
		moved := &talk{seq: w.cache.NewSequence(), text: x.text}
		w.talks = append(w.talks, moved)
		if err := w.commit(ctx, moved, x.rows); err != nil {
			return err
		}
	}
	return nil
}

// blockTables runs two passages in a cache of which the worker deals out the pages itself.
// The second shares the pages of the rows that both begin with, as far as its own rows leave
// them alone.
func (w *soaker) blockTables(ctx context.Context) (err error) {
	const each = (soakRows+soakDrafts)/blockSize + 1
	cache, err := w.head.NewCache(2*each + 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	var free []int32
	for _, page := range w.random.Perm(cache.Pages()) {
		free = append(free, int32(page))
	}
	texts := [2]int{w.random.IntN(len(w.truth.passages)), w.random.IntN(len(w.truth.passages))}
	again := 0 // rows that are given again
	if w.truth.c.shifts() {
		again = w.truth.c.maxDraft - 1
	}
	shared := max(0, min(w.truth.common(texts[0], texts[1]), soakRows-1)-again) / blockSize
	var table []int32
	for i, text := range texts {
		x := &talk{text: text}
		from := 0
		if i == 0 {
			table = free[:each]
		} else {
			table, from = slices.Concat(table[:shared], free[each:2*each-shared]), shared*blockSize
			x.rows = min(from+again, soakRows-1)
		}
		for ; x.rows < soakRows; from = max(0, x.rows-again) {
			n := 1 + w.random.IntN(soakRows-x.rows)
			byForward := !w.truth.c.shifts() && w.random.IntN(3) == 0
			b := w.input(false, x, from, n)
			b.Cache, b.Sequences[0].BlockTable, b.Sequences[0].Drafts = cache, table, w.random.IntN(soakDrafts+1)
			x.rows += n
			if byForward {
				got, err := w.head.Forward(ctx, b, 0)
				if err == nil {
					err = w.requireHidden(text, 0, from, got.Float32)
				}
				if err != nil {
					return fmt.Errorf("block table: %w", err)
				}
				continue
			}
			drafts, err := w.head.Draft(ctx, b)
			if err == nil {
				err = w.requireDraft(text, x.rows, &b.Sequences[0], &drafts[0], true)
			}
			if err != nil {
				return fmt.Errorf("block table: %w", err)
			}
		}
	}
	return nil
}
