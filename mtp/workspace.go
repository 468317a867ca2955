package mtp

import (
	"errors"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/moe"
)

// workspace is the device memory between the launches of a call. It grows to
// the largest call it served and is kept for later ones.
type workspace struct {
	device  hip.Device
	sharer  hip.Sharer         // nil: the device has no memory in common with the host
	replay  *hip.Replayer      // of what is launched again and again
	batches []*attention.Batch // of the passes of a call, for the cache that was used last
	owner   *attention.Cache
	moe     moe.Workspace
	words   words   // of a call, see pass.encode
	results results // of a call, see segment
	queued  bool    // something may be, that was not waited for

	hiddenIn, embeds             inputBuffers
	tokens, masked               buffer
	both, x, normed, qkv         buffer
	scores, selected, context    buffer
	wantedX, wantedQKV           buffer // see pass.wanted
	attnOut, hidden, otherHidden buffer
	picked                       buffer
	finalNorm, logits            buffer
	largest, sums, index         buffer
}

// keptGraphs is how many sequences of launches a workspace keeps as graphs: for each
// number of rows that batches have, and length of chain.
const keptGraphs = 64

func newWorkspace(d hip.Device) *workspace {
	w := &workspace{device: d, replay: hip.NewReplayer(d, keptGraphs)}
	w.sharer, _ = d.(hip.Sharer)
	return w
}

// buffer is an allocation that only grows.
type buffer struct {
	ptr   hip.Ptr
	bytes int64
}

// grow makes room for n values of size bytes. What was there is lost.
func (b *buffer) grow(d hip.Device, n, size int) error {
	bytes := int64(n) * int64(size)
	if bytes <= b.bytes {
		return nil
	}
	if err := d.Free(b.ptr); err != nil {
		return err
	}
	*b = buffer{}
	p, err := d.Alloc(bytes)
	if err != nil {
		return err
	}
	*b = buffer{p, bytes}
	return nil
}

// need is a buffer with the number of its values.
type need struct {
	buffer *buffer
	n      int
	size   int
}

func (w *workspace) grow(needs ...need) error {
	for _, n := range needs {
		if err := n.buffer.grow(w.device, n.n, n.size); err != nil {
			return err
		}
	}
	return nil
}

// batchOf returns the rows of the i-th pass of a call, in a cache.
func (w *workspace) batchOf(c *attention.Cache, i int) (*attention.Batch, error) {
	if w.owner != c {
		if err := w.closeBatches(); err != nil {
			return nil, err
		}
		w.batches, w.owner = []*attention.Batch{attention.NewBatch(c)}, c
	}
	for len(w.batches) <= i {
		w.batches = append(w.batches, w.batches[0].Another())
	}
	return w.batches[i], nil
}

func (w *workspace) closeBatches() error {
	if len(w.batches) == 0 {
		return nil
	}
	return w.batches[0].Close() // whose memory the others share
}

// granule is what sizes are rounded up to that grow with the sequences, where that
// lets a graph serve for longer; see [attention.Batch.Encode].
func (w *workspace) granule(observed bool) int {
	if _, ok := w.device.(hip.Capturer); ok && !observed {
		return 16
	}
	return 1
}

// begin begins a call, which ends with wait or read, or with an error.
func (w *workspace) begin() error {
	if err := w.settle(); err != nil {
		return err
	}
	w.queued = true
	w.words.begin()
	return w.results.expect(w.device, w.sharer, 0)
}

// settle waits for what a call that failed has queued: neither the workspace nor the
// caller's memory is in use then.
func (w *workspace) settle() error {
	if !w.queued {
		return nil
	}
	err := w.device.Sync()
	w.queued = err != nil
	return err
}

// wait returns the call's results, see results.wait.
func (w *workspace) wait() ([]int32, error) {
	values, err := w.results.wait(w.device, w.sharer)
	w.queued = err != nil
	return values, err
}

// read waits for the call and copies len(values) from p.
func (w *workspace) read(values []float32, p hip.Ptr) error {
	err := hip.ReadOf(w.device, values, p)
	w.queued = err != nil
	return err
}

// run launches what launch does, behind the copy of the words, as a graph where that can
// be. What is observed is read between the launches and cannot.
func (w *workspace) run(observed bool, launch func(d hip.Device) error) error {
	all := func(d hip.Device) error {
		if err := w.words.fetch(d); err != nil {
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
	errs := []error{w.replay.Close(), w.moe.Free(w.device), w.closeBatches(), w.words.shared.free(w.device), w.results.shared.free(w.device)}
	for _, b := range []*buffer{
		&w.words.buffer, &w.results.buffer, &w.hiddenIn.narrow, &w.hiddenIn.wide, &w.embeds.narrow, &w.embeds.wide,
		&w.tokens, &w.masked, &w.both, &w.x, &w.normed, &w.qkv, &w.wantedX, &w.wantedQKV,
		&w.scores, &w.selected, &w.context, &w.attnOut, &w.hidden, &w.otherHidden, &w.picked, &w.finalNorm, &w.logits,
		&w.largest, &w.sums, &w.index,
	} {
		errs = append(errs, w.device.Free(b.ptr))
		*b = buffer{}
	}
	return errors.Join(errs...)
}

// growStates makes room for what steps of a chain hand on: rows rows at most, of so
// many sequences.
func (w *workspace) growStates(hidden, rows, sequences int) error {
	return w.grow(
		need{&w.hiddenIn.wide, rows * hidden, 4}, need{&w.hidden, rows * hidden, 4}, need{&w.otherHidden, rows * hidden, 4},
		need{&w.picked, sequences * hidden, 4}, need{&w.finalNorm, sequences * hidden, 4},
	)
}

// take returns an idle workspace or a new one; give returns it.
func (h *Head) take() *workspace {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.workspaces); n > 0 {
		w := h.workspaces[n-1]
		h.workspaces = h.workspaces[:n-1]
		return w
	}
	return newWorkspace(h.device)
}

func (h *Head) give(w *workspace) {
	_ = w.settle() // if it fails, the call has already, and the next one settles it
	h.mu.Lock()
	defer h.mu.Unlock()
	h.workspaces = append(h.workspaces, w)
}
