package mtp

import (
	"errors"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/moe"
	"github.com/drafthead/drafthead/mtp/internal/kernels"
	"github.com/drafthead/drafthead/mtp/internal/sampling"
	"github.com/drafthead/drafthead/mtp/internal/staging"
	"github.com/drafthead/drafthead/weights"
)

// workspace is the device memory between the launches of a call. It grows to the largest
// call it served and is kept for later ones.
type workspace struct {
	device hip.Device
	replay *hip.Replayer // of what is launched again and again
	up     *staging.Up
	down   *staging.Down
	queued bool // work may be queued that no call has waited for

	most, recent, calls int   // the most rows of any call, and of calls since the count began
	lastCall            int64 // of the head's

	batches []*attention.Batch // of the steps of a call, for the cache that was used last
	owner   *attention.Cache
	spans   []attention.Span // of a step, while it is encoded
	moe     moe.Workspace
	top     kernels.TopK
	sampler sampling.Sampler

	hiddenIn, embedsIn inputBuffers
	tokens             hip.Buffer // of Head.Embed

	masked, both, x, normed, qkv hip.Buffer // of the rows of a step
	wantedX, wantedQKV           hip.Buffer // of its wanted rows
	scores, selected, attnCtx    hip.Buffer
	attnOut, moeNormed           hip.Buffer
	hidden, otherHidden          hip.Buffer // what steps hand on
	picked, finalNormed, logits  hip.Buffer // of the rows that tokens are drafted from
	record, gathered, joined     hip.Buffer // what ranks exchange of them

	rounded weights.QuantizedRows // of the rows of one product
	split   weights.SplitRows     // the same
}

// keptGraphs is how many sequences of launches a workspace keeps as graphs. There is one
// for each combination of a batch's rows and the length of its chain.
const keptGraphs = 64

func newWorkspace(d hip.Device) *workspace {
	return &workspace{device: d, replay: hip.NewReplayer(d, keptGraphs), up: staging.NewUp(d), down: staging.NewDown(d)}
}

func (w *workspace) buffers() []*hip.Buffer {
	return []*hip.Buffer{
		&w.hiddenIn.narrow, &w.hiddenIn.wide, &w.embedsIn.narrow, &w.embedsIn.wide, &w.tokens,
		&w.masked, &w.both, &w.x, &w.normed, &w.qkv, &w.wantedX, &w.wantedQKV,
		&w.scores, &w.selected, &w.attnCtx, &w.attnOut, &w.moeNormed,
		&w.hidden, &w.otherHidden, &w.picked, &w.finalNormed, &w.logits,
		&w.record, &w.gathered, &w.joined,
	}
}

// need is a buffer with the number of its values, of 4 bytes each.
type need struct {
	buffer *hip.Buffer
	values int
}

func (w *workspace) grow(needs ...need) error {
	for _, n := range needs {
		if err := n.buffer.Grow(w.device, n.values, 4); err != nil {
			return err
		}
	}
	return nil
}

// batchOf returns the attention batch of the i-th step of a call, for a cache.
func (w *workspace) batchOf(c *attention.Cache, i int) (*attention.Batch, error) {
	if w.owner != c {
		if err := w.closeBatches(); err != nil {
			return nil, err
		}
		w.batches, w.owner = []*attention.Batch{attention.NewBatch(c)}, c
	}
	for len(w.batches) <= i {
		w.batches = append(w.batches, attention.NewBatch(c, w.batches[0]))
	}
	return w.batches[i], nil
}

func (w *workspace) closeBatches() error {
	if len(w.batches) == 0 {
		return nil
	}
	return w.batches[0].Close() // the others share its memory
}

// granule returns the multiple to which sizes that grow with the sequences are rounded up,
// so that a graph serves for longer; see [attention.Batch.Encode].
func (w *workspace) granule() int {
	if w.device.Info().IsGPU() {
		return 16
	}
	return 1
}

// start makes the workspace ready for a call, which ends with wait or read, or with an error.
func (w *workspace) start() error {
	if err := w.settle(); err != nil {
		return err
	}
	w.queued = true
	w.up.Begin()
	return w.down.Expect(0)
}

// settle waits for what a failed call has queued: after that neither the workspace nor
// the caller's memory is in use.
func (w *workspace) settle() error {
	if !w.queued {
		return nil
	}
	err := w.device.Sync()
	w.queued = err != nil
	return err
}

// wait waits for the call and returns the first n of its results, see [staging.Down].
func (w *workspace) wait(n int) ([]int32, error) {
	values, err := w.down.Wait(n)
	w.queued = err != nil
	return values, err
}

// read waits for the call and copies len(values) from p.
func (w *workspace) read(values []float32, p hip.Ptr) error {
	err := hip.ReadOf(w.device, values, p)
	w.queued = err != nil
	return err
}

// run launches what launch does, after the copy of the words, as a graph if the device
// records graphs. An observed call reads between the launches, so it runs without a graph.
func (w *workspace) run(observed bool, launch func(d hip.Device) error) error {
	all := func(d hip.Device) error {
		if err := w.up.Fetch(d); err != nil {
			return err
		}
		return launch(d)
	}
	if observed {
		return all(w.device)
	}
	return w.replay.Run(all)
}

func (w *workspace) free() error {
	errs := []error{w.replay.Close(), w.moe.Free(w.device), w.closeBatches(), w.up.Free(), w.down.Free(), w.top.Free(w.device), w.sampler.Free(w.device), w.rounded.Free(w.device), w.split.Free(w.device)}
	for _, b := range w.buffers() {
		errs = append(errs, b.Free(w.device))
	}
	return errors.Join(errs...)
}

// takeWorkspace returns an idle workspace or a new one; giveWorkspace returns it.
func (h *Head) takeWorkspace() *workspace {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.workspaces); n > 0 {
		w := h.workspaces[n-1]
		h.workspaces = h.workspaces[:n-1]
		return w
	}
	return newWorkspace(h.device)
}

const (
	// A workspace that was made for over outgrown times the rows of any of its last
	// window calls is given back, and the next call makes a smaller one.
	outgrown, window = 4, 64
	// A workspace that was idle for so many calls is given back.
	idleCalls = 1024
)

// giveWorkspace returns the workspace of a call of so many rows.
func (h *Head) giveWorkspace(w *workspace, rows int) {
	clear(w.spans[:cap(w.spans)]) // which know pages of sequences
	settled := w.settle() == nil  // if not, the call has failed already, and the next one settles it
	h.mu.Lock()
	h.calls++
	w.lastCall = h.calls
	var free []*workspace
	if settled && w.tooLarge(rows) {
		free = append(free, w)
	} else {
		h.workspaces = append(h.workspaces, w)
	}
	if first := h.workspaces; len(first) > 1 && first[0].lastCall < h.calls-idleCalls {
		free, h.workspaces = append(free, first[0]), first[1:]
	}
	h.mu.Unlock()
	for _, w := range free {
		if w.free() != nil { // Close tries again
			h.mu.Lock()
			h.workspaces = append(h.workspaces, w)
			h.mu.Unlock()
		}
	}
}

// tooLarge counts a call of so many rows and reports whether the workspace has outgrown the
// last ones.
func (w *workspace) tooLarge(rows int) bool {
	w.most, w.recent, w.calls = max(w.most, rows), max(w.recent, rows), w.calls+1
	if w.calls < window {
		return false
	}
	recent := w.recent
	w.recent, w.calls = 0, 0
	return w.most > outgrown*max(recent, 16)
}
