package mtp

import (
	"errors"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
)

// Cache is the paged KV cache of a head: pages of sparse_block_size tokens that many
// sequences share, with one layer of keys and values for each module, or for each step
// of an aligned chain. It belongs to the head.
//
// Either its Sequences hand out its pages or an engine does, with block tables: the first
// Forward, Draft or Reserve that succeeds decides which. The other is refused from then on,
// since neither would know which pages the other handed out.
type Cache struct {
	head   *Head
	kv     *attention.Cache
	topk   int  // blocks that a query attends to: the config's, or fewer where there are never so many
	closed bool // guarded by head.using

	waiting waiting
}

// NewCache allocates a cache of the given number of pages, at least one. Too many pages for
// an int32 to number them are an [InputError], memory that is short wraps
// [hip.ErrOutOfMemory], a closed head is [ErrClosed].
func (h *Head) NewCache(pages int) (*Cache, error) {
	if err := h.enter(); err != nil {
		return nil, err
	}
	defer h.leave()
	layers := h.config.NumMTPModules
	if h.chain.shifts() {
		layers = max(layers, h.alignedSteps())
	}
	g := h.geometry
	g.TopkBlocks = min(g.TopkBlocks, h.mostBlocks(pages))
	kv, err := attention.NewCache(h.device, g, layers, pages, h.options.CacheFormat)
	if err != nil {
		return nil, ofAttention("mtp: new cache", err)
	}
	if err := h.setKVScales(kv, layers); err != nil {
		return nil, errors.Join(ofAttention("mtp: new cache", err), kv.Close())
	}
	c := &Cache{head: h, kv: kv, topk: g.TopkBlocks}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.caches[c] = struct{}{}
	return c, nil
}

// fewBlocks is how many blocks a block table may always have, with pages that stand in it
// twice.
const fewBlocks = 256

// mostBlocks bounds the blocks of a sequence in a cache: room for the selected ones is for
// no more, whatever the config asks for.
func (h *Head) mostBlocks(pages int) int {
	size := h.geometry.BlockSize
	return max(1, min((h.geometry.Rope.Positions-1)/size+1, max(pages, fewBlocks)))
}

// alignedSteps returns the number of steps whose rows an aligned chain keeps.
func (h *Head) alignedSteps() int {
	if h.options.MaxDraft > 0 {
		return h.options.MaxDraft
	}
	return h.config.NumMTPModules
}

// Pages returns the number of pages.
func (c *Cache) Pages() int { return c.kv.Pages() }

// FreePages returns the number of pages that no Sequence holds. The cache does not know
// which pages an engine hands out by block tables and counts all of those as free.
func (c *Cache) FreePages() int { return c.kv.FreePages() }

// Bytes returns the device memory of the cache.
func (c *Cache) Bytes() int64 { return c.kv.Bytes() }

// Buffers returns the device memory of one layer of the cache, keys, values and index keys,
// with the bytes of a page in each,
// for an engine that moves pages itself: see [attention.Cache.Buffers]. A layer is a module, or a step of an
// aligned chain; any other is an [InputError].
func (c *Cache) Buffers(layer int) (data []hip.Ptr, pageBytes []int64, err error) {
	if err := c.enter(); err != nil {
		return nil, nil, err
	}
	defer c.head.leave()
	data, pageBytes, err = c.kv.Buffers(layer)
	return data, pageBytes, ofAttention("mtp: buffers", err)
}

// enter begins a call that uses the cache; head.leave ends it.
func (c *Cache) enter() error {
	if c.head == nil {
		return refuse("Cache", "the zero Cache", "one of NewCache", nil)
	}
	if err := c.head.enter(); err != nil {
		return err
	}
	if c.closed {
		c.head.leave()
		return closed("cache")
	}
	return nil
}

// Close frees the cache, after the head's calls under way. Its sequences can then only be
// truncated or closed; neither is needed. What the device could not free, which is the error
// then, the next Close frees, or the head's. Close returns ErrClosed if the cache was freed
// before, by Close or with its head.
func (c *Cache) Close() error {
	h := c.head
	if h == nil {
		return refuse("Cache", "the zero Cache", "one of NewCache", nil)
	}
	h.using.Lock()
	defer h.using.Unlock()
	if _, held := h.caches[c]; !held {
		return closed("cache")
	}
	c.closed = true
	if err := c.kv.Close(); err != nil {
		return ofAttention("mtp: close cache", err)
	}
	delete(h.caches, c)
	return nil
}
