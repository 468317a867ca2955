package mtp

import (
	"context"
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
)

// call is a checked batch under way: its pages are claimed, its memory is a workspace.
type call struct {
	head  *Head
	batch *Batch
	cache *Cache
	rows  int // of the batch
	used  int // sequences that are this call's
	pages *attention.Transaction
	w     *workspace

	embeds  values // of the batch, which tokens stand for; see useEmbeds
	encoded int    // batches of rows, in the words
}

// given reports whether there is anything.
func (h *Hidden) given() bool { return h.Float32 != nil || h.BFloat16 != nil || h.Device != 0 }

// valueBytes is the size of a value on the device.
func (h *Hidden) valueBytes() int {
	if h.DeviceBFloat16 {
		return 2
	}
	return 4
}

// check returns an error unless h has rows × width values in exactly one form.
func (h *Hidden) check(field string, rows, width int) error {
	n := rows * width
	forms, got, form := 0, n, ""
	if h.Float32 != nil {
		forms, got, form = forms+1, len(h.Float32), "Float32"
	}
	if h.BFloat16 != nil {
		forms, got, form = forms+1, len(h.BFloat16), "BFloat16"
	}
	if h.Device != 0 {
		forms++
	}
	switch {
	case forms == 0:
		return refuse(field, "not given", "one of Float32, BFloat16, Device", nil)
	case forms > 1:
		return refuse(field, fmt.Sprintf("given in %d forms", forms), "one of Float32, BFloat16, Device", nil)
	case got != n:
		return refuse("len("+field+"."+form+")", got, fmt.Sprintf("%d, %d rows × hidden_size %d", n, rows, width), nil)
	}
	return nil
}

// rows is the number of rows of all sequences.
func (b *Batch) rows() int {
	n := 0
	for i := range b.Sequences {
		n += len(b.Sequences[i].Tokens)
	}
	return n
}

// check checks all of a batch that can be checked before anything is taken, and returns its
// cache.
func (h *Head) check(b *Batch) (*Cache, error) {
	if b == nil {
		return nil, refuse("Batch", "nil", "a batch", nil)
	}
	if len(b.Sequences) == 0 {
		return nil, refuse("Sequences", "empty", "at least one", nil)
	}
	var cache *Cache
	for i := range b.Sequences {
		c, err := h.checkRows(b, i)
		if err != nil {
			return nil, err
		}
		if cache != nil && cache != c {
			return nil, refuseRows(i, "Sequence", "of another cache than those before", "one cache in a batch", nil)
		}
		cache = c
	}
	rows, width := b.rows(), h.config.HiddenSize
	if err := b.Hidden.check("Hidden", rows, width); err != nil {
		return nil, err
	}
	if b.Embeds.given() {
		if err := b.Embeds.check("Embeds", rows, width); err != nil {
			return nil, err
		}
	}
	return cache, errors.Join(h.checkHidden("Hidden", &b.Hidden, rows), h.checkHidden("Embeds", &b.Embeds, rows))
}

// checkHidden checks the memory of hidden states that are on the device.
func (h *Head) checkHidden(field string, hidden *Hidden, rows int) error {
	if hidden.Device == 0 {
		return nil
	}
	return h.checkMemory(field+".Device", hidden.Device, rows, hidden.valueBytes(), false)
}

// checkRange returns a [hip.ErrAccess] unless the device knows the n bytes at p, if it can
// tell.
func (h *Head) checkRange(p hip.Ptr, n int64, write bool) error {
	type checker interface {
		CheckRange(p hip.Ptr, n int64, write bool) error
	}
	if d, ok := hip.As[checker](h.device); ok {
		return d.CheckRange(p, n, write)
	}
	return nil
}

// checkMemory returns an error unless the device knows rows × hidden_size values of size
// bytes at p, if it can tell. A GPU faults on values that are not aligned.
func (h *Head) checkMemory(field string, p hip.Ptr, rows, size int, write bool) error {
	width := h.config.HiddenSize
	if uint64(p)%uint64(size) != 0 {
		return refuse(field, fmt.Sprintf("memory at %#x", uint64(p)), fmt.Sprintf("an address that is a multiple of %d", size), nil)
	}
	err := h.checkRange(p, int64(rows)*int64(width)*int64(size), write)
	if !errors.Is(err, hip.ErrAccess) {
		return err
	}
	want := fmt.Sprintf("%d × %d %s that the device knows (Alloc, Adopt, Import)", rows, width, map[int]string{2: "bfloat16", 4: "float32"}[size])
	if write {
		want += " and may write"
	}
	return refuse(field, fmt.Sprintf("memory at %#x", uint64(p)), want, err)
}

// checkRows checks the rows of Sequences[i], and returns the cache that they go to.
func (h *Head) checkRows(b *Batch, i int) (*Cache, error) {
	r, cache := &b.Sequences[i], b.Cache
	bad := func(field string, got any, want string, err error) (*Cache, error) {
		return nil, refuseRows(i, field, got, want, err)
	}
	switch {
	case r.Sequence == nil && r.BlockTable == nil:
		return bad("Sequence", "nil, and BlockTable too", "one of them", nil)
	case r.Sequence != nil && r.BlockTable != nil:
		return bad("Sequence", "given, and BlockTable too", "one of them", nil)
	case r.Sequence != nil && r.Sequence.cache == nil:
		return bad("Sequence", "the zero Sequence", "one of NewSequence", nil)
	case r.Sequence != nil:
		cache = r.Sequence.cache
	case cache == nil:
		return nil, refuse("Cache", "nil", fmt.Sprintf("one of NewCache, which has the pages of Sequences[%d].BlockTable", i), nil)
	}
	switch {
	case cache.head != h && r.Sequence != nil:
		return bad("Sequence", "another head's", "one of a cache of this head", nil)
	case cache.head != h:
		return nil, refuse("Cache", "another head's", "one of this head's NewCache", nil)
	case cache.closed && r.Sequence != nil:
		return bad("Sequence", "of a cache that was closed", "one of an open cache", ErrClosed)
	case cache.closed:
		return nil, refuse("Cache", "closed", "an open one", ErrClosed)
	case r.Sequence != nil && b.Sequences[0].Sequence == nil:
		return bad("Sequence", "given, where Sequences[0] has a BlockTable", "Sequences or BlockTables in a batch, not both", nil)
	case r.Sequence == nil && b.Sequences[0].Sequence != nil:
		return bad("BlockTable", "given, where Sequences[0] has a Sequence", "Sequences or BlockTables in a batch, not both", nil)
	case len(r.Tokens) == 0:
		return bad("Tokens", "empty", "at least one", nil)
	}
	for j, t := range r.Tokens {
		if t < 0 || int(t) >= h.config.VocabSize {
			return bad(fmt.Sprintf("Tokens[%d]", j), t, fmt.Sprintf("0 to %d", h.config.VocabSize-1), errToken)
		}
	}
	switch limit := h.config.Attention.Rope.Positions; {
	case r.Position < 0:
		return bad("Position", r.Position, "at least 0", nil)
	case r.Position > limit-len(r.Tokens):
		return bad("Position", fmt.Sprintf("%d, of %d rows", r.Position, len(r.Tokens)), fmt.Sprintf("rows at positions up to %d", limit-1), attention.ErrPosition)
	}
	if most := cache.topk; r.BlockTable != nil && most < h.config.Attention.TopkBlocks {
		// The rows of the chain may reach further than the confirmed ones.
		end, size := r.Position+len(r.Tokens)+max(0, min(r.Drafts, maxDraft)), h.config.Attention.BlockSize
		if blocks := min((end+size-1)/size, len(r.BlockTable)); blocks > most {
			return bad("BlockTable", fmt.Sprintf("of %d blocks", blocks), fmt.Sprintf("at most %d, which a cache of %d pages has room to select", most, cache.Pages()), nil)
		}
	}
	return cache, nil
}

// begin begins a call: it checks the batch, also by check, and claims the pages that claim
// asks for. end ends the call, after commit or rollback.
func (h *Head) begin(ctx context.Context, b *Batch, check func(b *Batch) error, claim func(i int, r *Rows) (attention.Claim, error)) (c *call, err error) {
	if err := h.enter(); err != nil {
		return nil, err
	}
	c = &call{head: h, batch: b}
	began := c
	defer func() {
		if err != nil {
			began.leave()
		}
	}()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("mtp: %w", err)
	}
	cache, err := h.check(b)
	if err != nil {
		return nil, err
	}
	if err := check(b); err != nil {
		return nil, err
	}
	if err := c.enter(); err != nil {
		return nil, err
	}
	claims := make([]attention.Claim, len(b.Sequences))
	for i := range b.Sequences {
		r := &b.Sequences[i]
		if claims[i], err = claim(i, r); err != nil {
			return nil, err
		}
		if claims[i].BlockTable = r.BlockTable; r.Sequence != nil {
			claims[i].Sequence = r.Sequence.kv
		}
	}
	pages, err := cache.kv.Begin(claims...)
	if err != nil {
		if errors.Is(err, attention.ErrCacheFull) {
			h.counters.cacheFull.Add(1)
		}
		return nil, ofAttention("mtp", err)
	}
	for i := range b.Sequences {
		if r := &b.Sequences[i]; r.Sequence != nil && r.Position > r.Sequence.Len() {
			err = refuseRows(i, "Position", r.Position, fmt.Sprintf("at most %d, the rows that the sequence has", r.Sequence.Len()), nil)
			return nil, errors.Join(err, pages.Rollback())
		}
	}
	c.cache, c.rows, c.pages, c.w = cache, b.rows(), pages, h.takeWorkspace()
	return c, nil
}

// enter makes the batch's sequences this call's: from here on they may be looked at.
func (c *call) enter() error {
	for i := range c.batch.Sequences {
		s := c.batch.Sequences[i].Sequence
		if s != nil && !s.use.CompareAndSwap(false, true) {
			for j := range i {
				if c.batch.Sequences[j].Sequence == s {
					return refuseRows(i, "Sequence", fmt.Sprintf("that of Sequences[%d]", j), "each once", nil)
				}
			}
			return refuseRows(i, "Sequence", "in use", "one that no other call uses", errInUse)
		}
		c.used = i + 1
	}
	return nil
}

// leave ends what enter and begin took.
func (c *call) leave() {
	for i := range c.used {
		if s := c.batch.Sequences[i].Sequence; s != nil {
			s.use.Store(false)
		}
	}
	c.head.leave()
}

// rollback leaves sequences as they were before a call that failed.
func (c *call) rollback(err error) error { return errors.Join(err, c.pages.Rollback()) }

// commit leaves sequences with the rows that the call wrote for good.
func (c *call) commit() error { return ofAttention("mtp", c.pages.Commit()) }

// end ends the call, and rolls it back if it has neither done that nor committed: an
// observer panicked.
func (c *call) end() {
	c.head.giveWorkspace(c.w, c.rows)
	_ = c.pages.Rollback()
	c.leave()
}
