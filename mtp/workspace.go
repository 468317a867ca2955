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
	device hip.Device
	batch  *attention.Batch // of the cache that was used last
	owner  *attention.Cache
	moe    moe.Workspace

	tokens, positions                buffer
	hiddenIn, narrow, embeds, masked buffer // narrow: bfloat16 on its way to hiddenIn
	both, x, normed, qkv             buffer
	scores, selected, context        buffer
	attnOut, hidden                  buffer
	finalNorm, logits                buffer
	largest, sums, index             buffer
	ids, probabilities               buffer
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

// batchOf returns the rows' description for a cache.
func (w *workspace) batchOf(c *attention.Cache) (*attention.Batch, error) {
	if w.owner == c {
		return w.batch, nil
	}
	if w.batch != nil {
		if err := w.batch.Close(); err != nil {
			return nil, err
		}
	}
	w.batch, w.owner = attention.NewBatch(c), c
	return w.batch, nil
}

func (w *workspace) free() error {
	errs := []error{w.moe.Free(w.device)}
	if w.batch != nil {
		errs = append(errs, w.batch.Close())
	}
	for _, b := range []*buffer{
		&w.tokens, &w.positions, &w.hiddenIn, &w.narrow, &w.embeds, &w.masked, &w.both, &w.x, &w.normed, &w.qkv,
		&w.scores, &w.selected, &w.context, &w.attnOut, &w.hidden, &w.finalNorm, &w.logits,
		&w.largest, &w.sums, &w.index, &w.ids, &w.probabilities,
	} {
		errs = append(errs, w.device.Free(b.ptr))
		*b = buffer{}
	}
	return errors.Join(errs...)
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
	return &workspace{device: h.device}
}

func (h *Head) give(w *workspace) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.workspaces = append(h.workspaces, w)
}
