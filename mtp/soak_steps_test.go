package mtp_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// soakTable is what a worker does: one step in proportion to its weight.
var soakTable = []struct {
	name   string
	weight int
	do     func(w *soaker, ctx context.Context) error
}{
	{"draft", 16, (*soaker).draft},
	{"cancel", 3, (*soaker).cancel},
	{"forward", 4, (*soaker).forward},
	{"forward module", 2, (*soaker).forwardModule},
	{"logits", 2, (*soaker).logits},
	{"candidates", 2, (*soaker).candidates},
	{"reserve", 3, (*soaker).reserve},
	{"truncate", 3, (*soaker).truncate},
	{"fork", 3, (*soaker).fork},
	{"preempt", 2, (*soaker).preempt},
	{"close", 2, (*soaker).close},
	{"other cache", 1, (*soaker).otherCache},
	{"block tables", 2, (*soaker).blockTables},
}

// input is the next n rows of x, after those from a position on again, with hidden states in
// one form or the other.
func (w *soaker) input(bfloat16 bool, x *talk, from, n int) *mtp.Batch {
	b := w.truth.passages[x.text].batch(x.seq, from, x.rows+n)
	if bfloat16 {
		b.Hidden = mtp.Hidden{BFloat16: narrow(b.Hidden.Float32)}
	}
	return b
}

// ragged is a batch of random sequences, rows, drafts and bounds.
func (w *soaker) ragged() (b *mtp.Batch, talks []*talk) {
	b = new(mtp.Batch)
	bfloat16 := w.random.IntN(2) == 0
	for range 1 + w.random.IntN(4) {
		x := w.talk(soakRows)
		if slices.Contains(talks, x) {
			continue
		}
		one := w.input(bfloat16, x, x.seq.Resume(), 1+w.random.IntN(min(9, soakRows-x.rows)))
		rows := &one.Sequences[0]
		rows.Drafts = w.random.IntN(soakDrafts + 1)
		if w.random.IntN(4) == 0 {
			rows.MinProbability = w.random.Float64() / 4
		}
		b.Sequences = append(b.Sequences, *rows)
		b.Hidden.Float32 = append(b.Hidden.Float32, one.Hidden.Float32...)
		b.Hidden.BFloat16 = append(b.Hidden.BFloat16, one.Hidden.BFloat16...)
		talks = append(talks, x)
	}
	// A sequence that made room for a later one is not there any more.
	for i := len(talks) - 1; i >= 0; i-- {
		if !slices.Contains(w.talks, talks[i]) {
			return w.ragged()
		}
	}
	return b, talks
}

func (w *soaker) draft(ctx context.Context) error {
	b, talks := w.ragged()
	drafts, err := w.head.Draft(ctx, b)
	if full, err := w.full(err); full || err != nil {
		return err
	}
	return w.drafted(b, talks, drafts)
}

// drafted checks what a Draft returned, and counts its rows.
func (w *soaker) drafted(b *mtp.Batch, talks []*talk, drafts []mtp.Draft) error {
	if len(drafts) != len(talks) {
		return fmt.Errorf("%d drafts of %d sequences", len(drafts), len(talks))
	}
	for i, x := range talks {
		rows := &b.Sequences[i]
		x.rows = rows.Position + len(rows.Tokens)
		if got := x.seq.Len(); got != x.rows {
			return fmt.Errorf("a sequence of %d rows, want %d", got, x.rows)
		}
		if err := w.requireDraft(x.text, x.rows, rows, &drafts[i], w.cache != w.soak.cache); err != nil {
			return fmt.Errorf("passage %d, %d rows, %d of them new, %d drafts at least %g: %w",
				x.text, x.rows, len(rows.Tokens), rows.Drafts, rows.MinProbability, err)
		}
	}
	return nil
}

// requireDraft compares a draft with the oracle's. Without room for it a chain may be short.
func (w *soaker) requireDraft(text, n int, rows *mtp.Rows, got *mtp.Draft, room bool) error {
	if got.Err != nil || len(got.Tokens) > rows.Drafts || len(got.Probs) != len(got.Tokens) {
		return fmt.Errorf("drafts %+v", *got)
	}
	want, err := w.truth.chain(text, n, soakDrafts)
	if err != nil {
		return err
	}
	w.count.drafts.Add(int64(len(got.Tokens)))
	for i, id := range got.Tokens {
		if id == want.ids[i] && math.Abs(float64(got.Probs[i]-want.probs[i])) < soakOff {
			continue
		}
		if want.margins[i] < soakTie {
			w.count.ties.Add(1)
			return nil
		}
		return fmt.Errorf("drafts %+v, want %v of %v, with margins of %.3g", *got, want.ids, want.probs, want.margins)
	}
	// The chain ends where it has to.
	end := len(got.Tokens)
	for i, p := range want.probs[:rows.Drafts] {
		switch {
		case rows.MinProbability > 0 && math.Abs(float64(p)-rows.MinProbability) < soakOff:
			return nil // either way
		case float64(p) < rows.MinProbability:
			if i < end {
				return fmt.Errorf("draft %d is less likely than asked for: %+v, want %v", i, *got, want.probs)
			}
			return nil
		case i == end && (room || i == 0) && want.margins[i] >= soakTie:
			return fmt.Errorf("the chain ends early: %+v, want %v", *got, want.probs)
		}
	}
	return nil
}

// cancel ends the context of a Draft, from inside of it or from beside it.
func (w *soaker) cancel(ctx context.Context) error {
	b, talks := w.ragged()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if left := w.random.IntN(60); left%2 == 0 {
		b.Observe = func(mtp.Stage) {
			if left--; left < 0 {
				cancel()
			}
		}
	} else {
		defer time.AfterFunc(time.Duration(w.random.IntN(1000))*time.Microsecond, cancel).Stop()
	}
	drafts, err := w.head.Draft(ctx, b)
	if !errors.Is(err, context.Canceled) {
		if full, err := w.full(err); full || err != nil {
			return err
		}
		return w.drafted(b, talks, drafts)
	}
	for _, x := range talks {
		if got := x.seq.Len(); got != x.rows {
			return fmt.Errorf("a sequence of %d rows after a draft that was canceled, want %d", got, x.rows)
		}
	}
	return nil
}

// forward commits rows by Forward.
func (w *soaker) forward(ctx context.Context) error {
	x := w.talk(soakRows)
	n := 1 + w.random.IntN(min(9, soakRows-x.rows))
	got, err := w.head.Forward(ctx, w.input(w.random.IntN(2) == 0, x, x.rows, n), 0)
	if full, err := w.full(err); full || err != nil {
		return err
	}
	x.rows += n
	return w.requireHidden(x.text, 0, x.rows-n, got.Float32)
}

// requireHidden compares the hidden states of rows from the given one on with the oracle's.
func (w *soaker) requireHidden(text, module, from int, got []float32) error {
	want, err := w.truth.forward(text, module)
	if err != nil {
		return err
	}
	for row := range len(got) / hiddenSize {
		w.count.rows.Add(1)
		at := from + row
		err := hiptest.Within(got[row*hiddenSize:(row+1)*hiddenSize], want.hidden[at*hiddenSize:(at+1)*hiddenSize], soakOff)
		switch {
		case err != nil && want.margins[at] < soakTie:
			w.count.ties.Add(1)
		case err != nil:
			return fmt.Errorf("passage %d, module %d, row %d of rows from %d on, with a margin of %.3g: %w", text, module, at, from, want.margins[at], err)
		}
	}
	return nil
}

// forwardModule runs any module over the rows of a sequence of its own, in two pieces.
func (w *soaker) forwardModule(ctx context.Context) error {
	module := w.random.IntN(w.head.Config().NumMTPModules)
	x := &talk{seq: w.cache.NewSequence(), text: w.random.IntN(len(w.truth.passages))}
	w.talks = append(w.talks, x)
	for range 2 {
		n := 1 + w.random.IntN(8)
		got, err := w.head.Forward(ctx, w.input(false, x, x.rows, n), module)
		if full, err := w.full(err); full || err != nil {
			if err == nil && slices.Contains(w.talks, x) {
				err = w.drop(slices.Index(w.talks, x))
			}
			return err
		}
		x.rows += n
		if err := w.requireHidden(x.text, module, x.rows-n, got.Float32); err != nil {
			return err
		}
	}
	return w.drop(slices.Index(w.talks, x))
}

// someRows picks rows of a passage's hidden states, as the oracle has them.
func (w *soaker) someRows() (module int, rows []int, want *trueRows, err error) {
	module = w.random.IntN(w.head.Config().NumMTPModules)
	for range 1 + w.random.IntN(6) {
		rows = append(rows, w.random.IntN(soakRows))
	}
	want, err = w.truth.forward(w.random.IntN(len(w.truth.passages)), module)
	return module, rows, want, err
}

func (w *soaker) logits(ctx context.Context) error {
	module, rows, want, err := w.someRows()
	if err != nil {
		return err
	}
	got, err := w.head.Logits(ctx, mtp.Hidden{Float32: want.hidden}, rows, module)
	if err != nil {
		return err
	}
	for i, row := range rows {
		if err := hiptest.Within(got[i*vocabSize:(i+1)*vocabSize], want.logits[row*vocabSize:(row+1)*vocabSize], soakOff); err != nil {
			return fmt.Errorf("logits of row %d: %w", row, err)
		}
	}
	return nil
}

// candidates compares TopK with the order of Logits and with the oracle's softmax.
func (w *soaker) candidates(ctx context.Context) error {
	module, rows, want, err := w.someRows()
	if err != nil {
		return err
	}
	k, hidden := 1+w.random.IntN(8), mtp.Hidden{Float32: want.hidden}
	ids, probs, err := w.head.TopK(ctx, hidden, rows, module, k)
	if err != nil {
		return err
	}
	logits, err := w.head.Logits(ctx, hidden, rows, module)
	if err != nil {
		return err
	}
	for i, row := range rows {
		own := logits[i*vocabSize : (i+1)*vocabSize]
		var order []int32
		for id := range int32(vocabSize) {
			order = append(order, id)
		}
		slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(own[b], own[a]) })
		if got := ids[i*k : (i+1)*k]; !slices.Equal(got, order[:k]) {
			return fmt.Errorf("candidates %v of row %d, want %v", got, row, order[:k])
		}
		for j, id := range order[:k] {
			p := softmaxAt(want.logits[row*vocabSize:(row+1)*vocabSize], int(id))
			if math.Abs(float64(p-probs[i*k+j])) > soakOff {
				return fmt.Errorf("candidate %d of row %d has probability %v, want %v", j, row, probs[i*k+j], p)
			}
		}
	}
	return nil
}

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
