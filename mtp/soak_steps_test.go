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
	{"sample", 6, (*soaker).sample},
	{"bytes", 3, (*soaker).bytes},
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
