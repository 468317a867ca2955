// Package ranks is the -tp and -ep flags of the programs: a parallel head over several
// devices, of one process or of one process each. Every rank runs the same program on its
// own device and makes the same calls; what depends on time rank 0 decides for all.
package ranks

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"flag"
	"fmt"
	"sync"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/devices"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// Layout is how many ranks share a head, Tensor × Expert, and which of them this process is.
type Layout struct {
	Tensor, Expert int

	// Group is a file by which processes of one rank each meet. Empty: this process is all
	// ranks. Rank is this one's then.
	Group string
	Rank  int

	library string // of RCCL or NCCL
}

// Var defines the flags.
func (l *Layout) Var(flags *flag.FlagSet) {
	flags.IntVar(&l.Tensor, "tp", 1, "cut the head over `N` devices: attention heads, columns of experts, rows of lm_head; cpu and reference devices are made, hip[:n] counts up from n")
	flags.IntVar(&l.Expert, "ep", 1, "deal the experts over `N` devices; with -tp over N times as many")
	flags.StringVar(&l.Group, "group", "", "be one rank of -tp and -ep, of GPUs, and let a process for every other rank be started with the same `file`, which rank 0 writes and removes")
	flags.IntVar(&l.Rank, "rank", 0, "`number` of this process's rank, with -group; rank 0 prints")
	flags.StringVar(&l.library, "group-library", "", "`file` of librccl.so or libnccl.so.2; default: where the system looks")
}

// most bounds the ranks of one process.
const most = 64

// Check refuses values that are out of range.
func (l Layout) Check(wrong *cli.Refused) {
	wrong.If(l.Tensor < 1 || l.Tensor > most, "-tp is %d, want 1 to %d", l.Tensor, most)
	wrong.If(l.Expert < 1 || l.Expert > most, "-ep is %d, want 1 to %d", l.Expert, most)
	wrong.If(l.Group == "" && l.Rank != 0, "-rank is for one process for each rank: it wants -group")
	wrong.If(l.Group != "" && l.Ranks() < 2, "-group is for two ranks or more: it wants -tp or -ep")
	wrong.If(l.Group != "" && l.Ranks() >= 2 && (l.Rank < 0 || l.Rank >= l.Ranks()), "-rank is %d, want 0 to %d: -tp %d × -ep %d", l.Rank, l.Ranks()-1, l.Tensor, l.Expert)
	wrong.If(l.Tensor >= 1 && l.Expert >= 1 && l.Ranks() > most, "-tp %d and -ep %d are %d devices, want at most %d", l.Tensor, l.Expert, l.Ranks(), most)
}

// Ranks returns the number of devices.
func (l Layout) Ranks() int { return l.Tensor * l.Expert }

// Open opens the devices of this process's ranks, from the named one on. The caller closes
// them.
func (l Layout) Open(name string) ([]hip.Device, error) {
	if l.Group == "" {
		return devices.OpenAll(name, l.Ranks())
	}
	d, err := devices.OpenNth(name, l.Rank, l.Ranks())
	return []hip.Device{d}, err
}

// Prints reports whether this process has the rank that prints.
func (l Layout) Prints() bool { return l.Group == "" || l.Rank == 0 }

// Rank is one device of a layout.
type Rank struct {
	Device hip.Device
	Number int // from 0

	layout Layout
	group  *hip.Group // nil: the only one
	agreed []chan bool
}

// Only returns the rank of a head that runs alone.
func Only(d hip.Device) *Rank { return &Rank{Device: d, layout: Layout{Tensor: 1, Expert: 1}} }

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
	switch {
	case r.group == nil:
		return decide(), nil
	case r.agreed == nil:
		decided, err := All(ctx, r, r.First() && decide())
		return err == nil && decided[0], err
	case r.First():
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

// All returns on every rank what each of them gives, in their order.
func All[T any](ctx context.Context, r *Rank, own T) (all []T, err error) {
	if r.group == nil {
		return []T{own}, nil
	}
	var text bytes.Buffer
	if err := gob.NewEncoder(&text).Encode(&own); err != nil {
		return nil, err
	}
	stop := r.group.Watch(ctx)
	defer func() {
		if failed := stop(); failed != nil {
			all, err = nil, failed
		}
	}()
	lengths, err := r.group.Exchange(binary.LittleEndian.AppendUint32(nil, uint32(text.Len())))
	if err != nil {
		return nil, err
	}
	longest := uint32(0)
	for _, n := range lengths {
		longest = max(longest, binary.LittleEndian.Uint32(n))
	}
	texts, err := r.group.Exchange(append(text.Bytes(), make([]byte, int(longest)-text.Len())...))
	if err != nil {
		return nil, err
	}
	all = make([]T, len(texts))
	for i := range texts {
		if err := gob.NewDecoder(bytes.NewReader(texts[i])).Decode(&all[i]); err != nil {
			return nil, fmt.Errorf("from rank %d: %w", i, err)
		}
	}
	return all, nil
}

// On makes a group of devices that are open and calls do on every rank of this process at
// once. The first error ends the others, and is returned. Errors of a rank but the first
// begin with its number, unless they are of the input.
func (l Layout) On(ctx context.Context, opened []hip.Device, do func(ctx context.Context, r *Rank) error) (err error) {
	if l.Ranks() == 1 {
		return do(ctx, Only(opened[0]))
	}
	ranks, err := l.form(ctx, opened)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for _, r := range ranks {
		all.Go(func() {
			if err := do(ctx, r); err != nil {
				if r.Number > 0 && !errors.Is(err, hip.ErrInput) { // all have the same input
					err = fmt.Errorf("rank %d: %w", r.Number, err)
				}
				cancel(err) // the first counts
				r.group.Abort(err)
			}
		})
	}
	all.Wait()
	err = context.Cause(ctx)
	for _, r := range ranks {
		err = errors.Join(err, r.group.Close())
	}
	return err
}

// form returns the ranks of this process.
func (l Layout) form(ctx context.Context, opened []hip.Device) (ranks []*Rank, err error) {
	if l.Group != "" {
		r := &Rank{Device: opened[0], Number: l.Rank, layout: l}
		r.group, err = l.join(ctx, r.Device)
		return []*Rank{r}, err
	}
	groups, err := hip.NewGroup(ctx, opened, hip.GroupOptions{Library: l.library})
	if err != nil {
		return nil, err
	}
	agreed := make([]chan bool, len(opened))
	for i, d := range opened {
		agreed[i] = make(chan bool, 1)
		ranks = append(ranks, &Rank{Device: d, Number: i, layout: l, group: groups[i], agreed: agreed})
	}
	return ranks, nil
}
