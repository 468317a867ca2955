package mtp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
)

// together runs a part of a call on a rank of a parallel head, which all ranks run together;
// plan is what must be the same on all of them. An error of one rank that the others cannot know of ends the group.
func (h *Head) together(ctx context.Context, plan []byte, run func() error) error {
	r := h.ranks
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.group.Err(); err != nil {
		return fmt.Errorf("mtp: %w", err)
	}
	sum := fnv.New64a()
	sum.Write(binary.LittleEndian.AppendUint64(nil, r.plans))
	sum.Write(plan)
	r.plans = sum.Sum64()
	stop, done := r.group.Watch(ctx), false
	defer func() {
		if !done { // an observer panicked
			r.group.Abort(errors.New("a call has panicked"))
			_ = stop()
		}
	}()
	err := run()
	done = true
	if err != nil && !errors.Is(err, ErrInput) {
		r.group.Abort(err)
	}
	if failed := stop(); failed != nil {
		return fmt.Errorf("mtp: %w", failed)
	}
	return err
}

// appendPlan appends what must be the same of a batch on all ranks. The tables of pages are
// each rank's own.
func (b *Batch) appendPlan(plan []byte, kind byte, step int) []byte {
	word := func(values ...int) {
		for _, v := range values {
			plan = binary.LittleEndian.AppendUint64(plan, uint64(v))
		}
	}
	plan = append(plan, kind)
	word(step, len(b.Sequences))
	for i := range b.Sequences {
		r := &b.Sequences[i]
		word(r.Position, len(r.Tokens), r.Drafts, int(math.Float64bits(r.MinProbability)))
		for _, t := range r.Tokens {
			plan = binary.LittleEndian.AppendUint32(plan, uint32(t))
		}
		if s := r.Sampling; s != nil {
			plan = fmt.Appendf(plan, "%+v", *s)
		}
	}
	return plan
}
