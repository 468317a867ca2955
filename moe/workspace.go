package moe

import (
	"errors"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// Workspace is the device memory between the launches of an [Experts.Forward]. The zero
// Workspace is ready for use. It belongs to one device, grows as needed, and serves one
// Forward at a time. Free returns its memory.
type Workspace struct {
	observe bool // moe_routed_out and moe_out are stored too
	dense   bool // the last Forward was that of a dense MLP
	alone   bool // the last Forward had no shared expert

	logits       hip.Buffer // [rows, Experts] float32
	scores       hip.Buffer // [rows, Experts] float32
	ids          hip.Buffer // [rows, TopK] int32
	weights      hip.Buffer // [rows, TopK] float32
	offsets      hip.Buffer // [held+1] int32
	order        hip.Buffer // [rows · TopK] int32, those of experts held first
	active       hip.Buffer // [min(held, rows · TopK)] int32
	activeCount  hip.Buffer // [1] int32
	intermediate hip.Buffer // [rows · TopK, Intermediate] float32
	expertOut    hip.Buffer // [rows · TopK, Hidden] float32
	sharedInner  hip.Buffer // [rows, SharedIntermediate] float32
	shared       hip.Buffer // [rows, Hidden] float32
	routed       hip.Buffer // [rows, Hidden] float32, if observed
	total        hip.Buffer // [rows, Hidden] float32, if observed

	rounded      weights.QuantizedRows // x, for gate and up rows
	roundedInner weights.QuantizedRows // intermediate, and then sharedInner

	split      weights.SplitRows // x
	splitPairs weights.SplitRows // x, and then intermediate, in the order of the pairs
	splitInner weights.SplitRows // sharedInner
}

// Stage returns the address of an intermediate result of the last Forward, or the zero Ptr
// if there is none of that name; a dense MLP has shared_out and moe_out, and without a
// shared expert there is no shared_out. The memory is the workspace's, until its next
// Forward or Free. On a rank that holds a part, the last three are its summands.
//
//	router_scores    [rows, Experts] float32: s
//	expert_ids       [rows, TopK] int32, by descending s + bias
//	expert_weights   [rows, TopK] float32: w
//	shared_out       [rows, Hidden] float32: the shared expert
//	moe_routed_out   [rows, Hidden] float32: Σ w · expert(x), if observed
//	moe_out          [rows, Hidden] float32: their sum, if observed
func (w *Workspace) Stage(name string) hip.Ptr {
	switch {
	case name == "shared_out" && !w.alone:
		return w.shared.Ptr()
	case name == "moe_out" && w.observe:
		return w.total.Ptr()
	case w.dense:
		return 0
	case name == "router_scores":
		return w.scores.Ptr()
	case name == "expert_ids":
		return w.ids.Ptr()
	case name == "expert_weights":
		return w.weights.Ptr()
	case name == "moe_routed_out" && w.observe:
		return w.routed.Ptr()
	}
	return 0
}

// Reserve makes room for Forwards of up to that many rows, which then do not allocate. What
// is wrong with c or rows is a [hip.InputError] each; running out of memory is
// [hip.ErrOutOfMemory]. After an error the workspace can still be used. With observe set,
// Forward stores moe_routed_out and moe_out too: see Stage.
func (w *Workspace) Reserve(d hip.Device, c *Config, rows int, observe bool) error {
	const op = "moe: reserve"
	w.observe = observe
	if err := c.check(op); err != nil {
		return err
	}
	if err := c.checkRows(op, rows); err != nil {
		return err
	}
	return w.reserve(d, c, rows)
}

func (w *Workspace) reserve(d hip.Device, c *Config, rows int) error {
	w.dense, w.alone = c.dense(), !c.shared()
	pairs, held := rows*c.TopK, c.held()
	observed, routed, shared := 0, 0, 0
	if w.observe {
		observed = rows
	}
	if !w.dense {
		routed = 1
	}
	if !w.alone {
		shared = rows
	}
	if held == 0 {
		pairs = 0
	}
	for _, size := range []struct {
		buffer     *hip.Buffer
		rows, cols int
	}{
		{&w.logits, rows, c.Experts},
		{&w.scores, rows, c.Experts},
		{&w.ids, rows, c.TopK},
		{&w.weights, rows, c.TopK},
		{&w.offsets, routed, held + 1},
		{&w.order, 1, pairs},
		{&w.active, 1, min(held, pairs)},
		{&w.activeCount, routed, 1},
		{&w.intermediate, pairs, c.Intermediate},
		{&w.expertOut, pairs, c.Hidden},
		{&w.sharedInner, shared, c.SharedIntermediate},
		{&w.shared, shared, c.Hidden},
		{&w.routed, observed * routed, c.Hidden},
		{&w.total, observed, c.Hidden},
	} {
		if err := size.buffer.Grow(d, size.rows, 4*size.cols); err != nil {
			return err
		}
	}
	err := errors.Join(w.split.Reserve(d, rows, c.Hidden), w.splitInner.Reserve(d, shared, c.SharedIntermediate),
		w.splitPairs.Reserve(d, pairs, max(c.Hidden, c.Intermediate)))
	if c.Activations == hip.ActivationsExact {
		return err
	}
	return errors.Join(err, w.rounded.Reserve(d, rows, c.Hidden),
		w.roundedInner.Reserve(d, pairs, c.Intermediate), w.roundedInner.Reserve(d, shared, c.SharedIntermediate))
}

// Free returns all memory to d, after the work queued on it. The workspace can then be used
// again.
func (w *Workspace) Free(d hip.Device) error {
	errs := []error{d.Sync(), w.rounded.Free(d), w.roundedInner.Free(d), w.split.Free(d), w.splitPairs.Free(d), w.splitInner.Free(d)}
	for _, b := range []*hip.Buffer{
		&w.logits, &w.scores, &w.ids, &w.weights, &w.offsets, &w.order, &w.active, &w.activeCount,
		&w.intermediate, &w.expertOut, &w.sharedInner, &w.shared, &w.routed, &w.total,
	} {
		errs = append(errs, b.Free(d))
	}
	return errors.Join(errs...)
}
