package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/drafthead/drafthead/hip"
)

// exchange is the sums and gathers of one call over the ranks: for each step two sums of
// its rows, and where it drafts a gather of each rank's best token of every sequence.
type exchange struct {
	steps []int // rows that are summed
	picks int   // sequences that a step drafts for
}

// exchangeOf returns what a work exchanges. A commit sums its last row alone.
func exchangeOf(w *work) (e exchange) {
	rows := w.rows
	if w.commits {
		rows = 1
	}
	const piece = 1024 // of mtp.Options.MaxRows
	for ; rows > piece; rows -= piece {
		e.steps = append(e.steps, piece)
	}
	e.steps = append(e.steps, rows)
	for range w.k - 1 {
		e.steps = append(e.steps, len(w.lengths))
	}
	if w.k > 0 {
		e.picks = len(w.lengths)
	}
	return e
}

// measureExchange adds to a row how long its exchange takes alone, as a graph where the
// device records them.
func (b *session) measureExchange(ctx context.Context, w *work, r *row) (err error) {
	group := b.rank.Group()
	if group == nil {
		return nil
	}
	e, width := exchangeOf(w), b.head.Config().HiddenSize
	record := 8 + 16*e.picks // of one token for each
	var memory hip.Buffer
	if err := memory.Grow(b.device, max(w.rows*width, (group.Size()+1)*record), 4); err != nil {
		return err
	}
	replay := hip.NewReplayer(b.device, 1)
	defer func() { err = errors.Join(err, replay.Close(), memory.Free(b.device)) }()
	once := func(d hip.Device) error {
		for _, rows := range e.steps {
			for range 2 {
				if err := group.AllReduce(d, memory.Ptr(), rows*width); err != nil {
					return err
				}
			}
			if e.picks == 0 {
				continue
			}
			if err := group.AllGather(d, memory.Ptr().Add(int64(record)), memory.Ptr(), record); err != nil {
				return err
			}
		}
		return nil
	}
	var seconds []float64
	for i := range 20 {
		stop := group.Watch(ctx)
		start := time.Now()
		err := errors.Join(replay.Run(once), b.device.Sync(), stop())
		if err != nil {
			return fmt.Errorf("exchange of %s: %w", w.name, err)
		}
		if i > 4 { // recorded, and connected
			seconds = append(seconds, time.Since(start).Seconds())
		}
	}
	r.ExchangeSeconds = median(seconds)
	return nil
}

// printExchange writes what the exchanges of the rows take.
func (s *summary) printExchange(w io.Writer) error {
	return s.printTimes(w, "exchange       between the devices, alone:", func(r *row) float64 { return r.ExchangeSeconds })
}
