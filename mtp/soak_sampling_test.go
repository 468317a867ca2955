package mtp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// soakSampling is how the drafts of a passage are drawn.
func soakSampling(text int) *mtp.Sampling {
	return &mtp.Sampling{Temperature: 0.5 + 0.4*float64(text), TopK: 7 * (text % 3), Seed: uint64(text), Stream: 7}
}

// soakMask allows two tokens of three, others after each draft, and all after every third.
func soakMask(text int) func(drafted []int32) []uint32 {
	return func(drafted []int32) []uint32 {
		if len(drafted)%3 == 2 {
			return nil
		}
		return maskOf(func(token int) bool { return (token+len(drafted)+text)%3 > 0 })
	}
}

// sample draws drafts, some of them under masks, and verifies them against a target that
// samples.
func (w *soaker) sample(ctx context.Context) error {
	b, talks := w.ragged()
	for i, x := range talks {
		rows := &b.Sequences[i]
		rows.MinProbability = 0
		if w.random.IntN(3) > 0 {
			rows.Sampling = soakSampling(x.text)
		}
		if w.random.IntN(2) == 0 {
			rows.Allowed = soakMask(x.text)
		}
	}
	drafts, err := w.head.Draft(ctx, b)
	if full, err := w.full(err); full || err != nil {
		return err
	}
	for i, x := range talks {
		rows := &b.Sequences[i]
		x.rows = rows.Position + len(rows.Tokens)
		if err := w.requireChosen(x, rows, &drafts[i]); err != nil {
			return fmt.Errorf("passage %d, %d rows, %d drafts: %w", x.text, x.rows, rows.Drafts, err)
		}
	}
	return w.verifySampled(ctx, b, talks, drafts)
}

// requireChosen compares the probabilities of drafts that were drawn, or limited by a mask,
// with the oracle's after the same tokens, and requires that each was there to be chosen.
func (w *soaker) requireChosen(x *talk, rows *mtp.Rows, got *mtp.Draft) error {
	room := w.cache != w.soak.cache
	switch {
	case got.Err != nil || len(got.Tokens) > rows.Drafts || len(got.Probs) != len(got.Tokens):
		return fmt.Errorf("drafts %+v", *got)
	case len(got.Tokens) < rows.Drafts && (room || len(got.Tokens) == 0):
		return fmt.Errorf("the chain ends early: %+v", *got)
	case len(got.Tokens) == 0:
		return nil
	}
	want, err := w.truth.chosen(x.text, x.rows, &choice{got.Tokens, rows.Allowed})
	if err != nil {
		return err
	}
	among := 1
	if rows.Sampling != nil {
		among = rows.Sampling.TopK
	}
	for i, id := range got.Tokens {
		w.count.drawn.Add(1)
		if want.margins[i] < soakTie {
			w.count.ties.Add(1)
			return nil
		}
		logits := want.logits[i]
		if p := want.probs[i]; !(math.Abs(float64(got.Probs[i]-p)) < soakOff) {
			return fmt.Errorf("draft %d of %+v, want a probability of %v", i, *got, p)
		}
		sorted := slices.Sorted(slices.Values(logits))
		least := math.Inf(-1)
		if among > 0 {
			least = sorted[len(sorted)-among]
		}
		if v := logits[id]; math.IsInf(v, -1) || v < least-soakTie {
			return fmt.Errorf("draft %d of %+v is not among the %d most likely tokens that are allowed", i, *got, among)
		}
	}
	return nil
}

// verifySampled verifies all chains together, their logits on the host or on the device. The
// reference decides alike about each alone, bit for bit.
func (w *soaker) verifySampled(ctx context.Context, b *mtp.Batch, talks []*talk, drafts []mtp.Draft) (err error) {
	want, err := w.truth.forward(0, 0)
	if err != nil {
		return err
	}
	var together, alone []mtp.Verification
	for i, x := range talks {
		d := drafts[i]
		d.Tokens = d.Tokens[:w.random.IntN(len(d.Tokens)+1)]
		from := w.random.IntN(soakRows - soakDrafts - 1)
		v := mtp.Verification{
			Draft: d, Position: x.rows + 1, Sampling: *soakSampling(x.text), Block: w.random.IntN(2) == 0, Allowed: b.Sequences[i].Allowed,
			Logits: want.logits[from*vocabSize : (from+len(d.Tokens)+1)*vocabSize],
		}
		if alone = append(alone, v); w.random.IntN(2) == 0 {
			p, err := hip.Upload(w.head.Device(), v.Logits)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, w.head.Device().Free(p)) }()
			v.Logits, v.Device = nil, p
		}
		together = append(together, v)
	}
	got, err := w.head.VerifySampled(ctx, together)
	if err != nil {
		return err
	}
	for i := range alone {
		want, err := w.other.VerifySampled(ctx, alone[i:i+1])
		if err != nil {
			return err
		}
		if got[i] != want[0] {
			return fmt.Errorf("verified %+v, want %+v of %v", got[i], want[0], alone[i].Draft.Tokens)
		}
		w.count.verified.Add(1)
	}
	return nil
}

// bytes writes a sequence, hands it to another head, which goes on with it, and takes it
// back. Bytes that end early are refused.
func (w *soaker) bytes(ctx context.Context) error {
	x := w.talk(math.MaxInt)
	written, err := w.write(x)
	if err != nil {
		return err
	}
	if cut := w.random.IntN(len(written)); w.random.IntN(4) == 0 {
		if _, err := w.cache.ReadSequence(bytes.NewReader(written[:cut])); !errors.Is(err, mtp.ErrInput) && !errors.Is(err, attention.ErrCacheFull) {
			return fmt.Errorf("%d of %d bytes: %w", cut, len(written), err)
		}
	}
	visitor, err := w.guest.ReadSequence(bytes.NewReader(written))
	if err != nil {
		return err
	}
	guest := &soaker{soak: &soak{head: w.other, truth: w.truth, cache: w.guest, count: w.count}, random: w.random, cache: w.guest}
	y := &talk{visitor, x.text, x.rows}
	if resume := visitor.Resume(); y.rows < soakRows {
		b := guest.input(false, y, resume, 1+w.random.IntN(soakRows-y.rows))
		b.Sequences[0].Drafts = w.random.IntN(soakDrafts + 1)
		drafts, err := w.other.Draft(ctx, b)
		if err == nil {
			err = guest.drafted(b, []*talk{y}, drafts)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("the other head: %w", err), visitor.Close())
		}
	}
	if written, err = w.write(y); err != nil {
		return err
	}
	w.talks = slices.DeleteFunc(w.talks, func(of *talk) bool { return of == x })
	seq, err := w.cache.ReadSequence(bytes.NewReader(written))
	if err == nil {
		y.seq = seq
		w.talks = append(w.talks, y)
		return nil
	}
	_, err = w.full(err)
	return err
}

// write writes a sequence and closes it.
func (w *soaker) write(x *talk) ([]byte, error) {
	var to bytes.Buffer
	n, err := x.seq.WriteTo(&to)
	if err == nil && n != int64(to.Len()) {
		err = fmt.Errorf("%d bytes were written, not %d", to.Len(), n)
	}
	return to.Bytes(), errors.Join(err, x.seq.Close())
}
