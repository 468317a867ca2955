// Package ranks is the -tp and -ep flags of the programs: a parallel head over several
// devices of one process. Every rank runs the same program on its own device and makes the
// same calls; what depends on time rank 0 decides for all.
package ranks

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// Layout is how many ranks share a head: Tensor × Expert.
type Layout struct{ Tensor, Expert int }

// Var defines the flags.
func (l *Layout) Var(flags *flag.FlagSet) {
	flags.IntVar(&l.Tensor, "tp", 1, "cut the head over `N` devices: attention heads, columns of experts, rows of lm_head; cpu and reference devices are made, hip[:n] counts up from n")
	flags.IntVar(&l.Expert, "ep", 1, "deal the experts over `N` devices; with -tp over N times as many")
}

// most bounds the ranks of one process.
const most = 64

// Check refuses values that are out of range.
func (l Layout) Check(wrong *cli.Refused) {
	wrong.If(l.Tensor < 1 || l.Tensor > most, "-tp is %d, want 1 to %d", l.Tensor, most)
	wrong.If(l.Expert < 1 || l.Expert > most, "-ep is %d, want 1 to %d", l.Expert, most)
	wrong.If(l.Tensor >= 1 && l.Expert >= 1 && l.Ranks() > most, "-tp %d and -ep %d are %d devices, want at most %d", l.Tensor, l.Expert, l.Ranks(), most)
}

// Ranks returns the number of devices.
func (l Layout) Ranks() int { return l.Tensor * l.Expert }

// Rank is one device of a layout.
type Rank struct {
	Device hip.Device
	Number int // from 0

	layout Layout
	group  *hip.Group // nil: the only one
	agreed []chan bool
}

// Only returns the rank of a head that runs alone.
func Only(d hip.Device) *Rank { return &Rank{Device: d, layout: Layout{1, 1}} }

// First reports whether the rank is the one that prints.
func (r *Rank) First() bool { return r.Number == 0 }

// Options returns opts with the rank's device and share.
func (r *Rank) Options(opts mtp.Options) mtp.Options {
	opts.Device = r.Device
	if r.group != nil {
		opts.Group = r.group
		opts.TensorParallel = mtp.Shard{Rank: r.Tensor(), Size: r.layout.Tensor}
		opts.ExpertParallel = mtp.Shard{Rank: r.Number / r.layout.Tensor, Size: r.layout.Expert}
	}
	return opts
}

// Group returns the group of the ranks; nil for one rank.
func (r *Rank) Group() *hip.Group { return r.group }

// Tensor returns the rank's number among those that cut attention, and Expert among those
// that experts are dealt to.
func (r *Rank) Tensor() int { return r.Number % r.layout.Tensor }
func (r *Rank) Expert() int { return r.Number / r.layout.Tensor }

// Layout returns how the ranks share the head.
func (r *Rank) Layout() Layout { return r.layout }

// Agree returns on every rank what decide returns on the first.
func (r *Rank) Agree(ctx context.Context, decide func() bool) (bool, error) {
	if r.group == nil {
		return decide(), nil
	}
	if r.First() {
		decided := decide()
		for _, other := range r.agreed[1:] {
			select {
			case other <- decided:
			case <-ctx.Done():
				return false, context.Cause(ctx)
			}
		}
		return decided, nil
	}
	select {
	case decided := <-r.agreed[r.Number]:
		return decided, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// On makes a group of devices that are open and calls do on every rank at once. The first
// error ends the others, and is returned.
func (l Layout) On(ctx context.Context, opened []hip.Device, do func(ctx context.Context, r *Rank) error) (err error) {
	if len(opened) == 1 {
		return do(ctx, Only(opened[0]))
	}
	ranks := make([]*Rank, len(opened))
	for i, d := range opened {
		ranks[i] = &Rank{Device: d, Number: i, layout: l}
	}
	groups, err := hip.NewGroup(ctx, opened)
	if err != nil {
		return err
	}
	agreed := make([]chan bool, len(ranks))
	for i := range agreed {
		agreed[i] = make(chan bool, 1)
	}
	for i, r := range ranks {
		r.group, r.agreed = groups[i], agreed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for _, r := range ranks {
		all.Go(func() {
			if err := do(ctx, r); err != nil {
				if r.Number > 0 {
					err = fmt.Errorf("rank %d: %w", r.Number, err)
				}
				cancel(err) // the first counts
				r.group.Abort(err)
			}
		})
	}
	all.Wait()
	err = context.Cause(ctx)
	for _, g := range groups {
		err = errors.Join(err, g.Close())
	}
	return err
}
