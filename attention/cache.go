package attention

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/drafthead/drafthead/hip"
)

// Cache is the paged cache of keys, values and index keys of all layers, shared
// by many sequences. A page is BlockSize positions; page p is page p in every
// layer. Per layer there are three buffers:
//
//	K, V        [page][KV head][slot][HeadDim]
//	index keys  [page][slot][IndexDim]           none where attention is dense
//
//	block table of a sequence      pages
//	position 0 … BlockSize−1  ──▶  7   ┌─ head 0 ─ slot 0 │ slot 1 │ … │ slot BlockSize−1
//	BlockSize … 2·BlockSize−1 ──▶  2   ├─ head 1 ─ slot 0 │ …
//	…                                  └─ …
//
// One head's keys of a block are contiguous. A position's slot number over all pages is
// page·BlockSize + position mod BlockSize.
//
// Many goroutines may use a cache at a time, each with its own sequences. A page is not
// cleared when it changes hands; its sequence records which positions hold a key.
type Cache struct {
	device   hip.Device
	geometry Geometry
	format   CacheFormat
	layers   []cacheLayer
	pages    pages
	owner    ownership
	using    sync.RWMutex // held for reading while pages are copied, for writing by Close

	frequencies hip.Ptr // float64 [len(Rope.Frequencies)]; 0: nothing rotates
}

type cacheLayer struct {
	keys, values, indexKeys hip.Ptr
	keyScale, valueScale    float32 // 1 unless the format is scaled
}

// NewCache allocates a cache of the given number of pages for each layer. The device must
// stay open until Close. Each bad argument is a [hip.InputError]; running out of memory is
// [hip.ErrOutOfMemory].
func NewCache(d hip.Device, g Geometry, layers, pages int, format CacheFormat) (*Cache, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	p := problems{op: "cache"}
	p.refuse(d == nil, "device", d, "an open one")
	p.refuse(layers < 1 || layers > maxWidth, "layers", layers, "1 to 2^20")
	p.refuse(!format.valid(), "format", format, cacheFormats)
	most := math.MaxInt32 / g.BlockSize // slot numbers are int32
	p.refuse(pages < 1 || pages > most, "pages", pages, fmt.Sprintf("1 to %d", most))
	if err := p.err(); err != nil {
		return nil, err
	}
	c := &Cache{device: d, geometry: g, format: format, layers: make([]cacheLayer, layers)}
	// The lists of pages come last: they may be gigabytes themselves.
	if len(g.Rope.Frequencies) > 0 {
		var err error
		if c.frequencies, err = hip.Upload(d, g.Rope.Frequencies); err != nil {
			return nil, fmt.Errorf("attention: rotary frequencies: %w", err)
		}
	}
	for l := range c.layers {
		c.layers[l].keyScale, c.layers[l].valueScale = 1, 1
		if err := c.layers[l].alloc(c, pages); err != nil {
			err = fmt.Errorf("attention: cache of %d pages, layer %d: %w", pages, l, err)
			if failed := c.free(); failed != nil { // nobody else knows the memory: once more
				err = errors.Join(err, failed)
				_ = c.free()
			}
			return nil, err
		}
	}
	c.pages.init(pages)
	return c, nil
}

func (l *cacheLayer) alloc(c *Cache, pages int) (err error) {
	keyBytes, indexBytes, err := c.pageBytes(pages)
	if err != nil {
		return err
	}
	n := int64(pages)
	if l.keys, err = c.device.Alloc(n * keyBytes); err != nil {
		return err
	}
	if l.values, err = c.device.Alloc(n * keyBytes); err != nil {
		return err
	}
	if indexBytes > 0 {
		l.indexKeys, err = c.device.Alloc(n * indexBytes)
	}
	return err
}

// pageBytes returns the bytes of one page in a layer's K (or V) and index
// buffers, and an error if a buffer of so many pages could not be addressed.
func (c *Cache) pageBytes(pages int) (keys, index int64, err error) {
	g := &c.geometry
	slotBytes := int64(g.KVHeads) * int64(g.HeadDim) * elementBytes(c.format.keys())
	keys = slotBytes * int64(g.BlockSize)
	index = int64(g.IndexDim) * int64(g.BlockSize) * elementBytes(c.format.indexKeys())
	if most := int64(math.MaxInt64) / int64(pages) / int64(g.BlockSize); slotBytes > most || int64(g.IndexDim)*4 > most {
		return 0, 0, fmt.Errorf("cache: %w", hip.ErrOutOfMemory)
	}
	return keys, index, nil
}

// SetScales sets what keys and values of a layer are divided by before they are stored in
// F8_E4M3, and multiplied with when attention reads them, as a checkpoint's k_scale and
// v_scale say. They are 1 until then. What is stored already is not converted, so set them
// before the first row, with no call under way. A scale that is not a finite number above 0,
// and any of a cache whose format has no scales, is a [hip.InputError].
func (c *Cache) SetScales(layer int, keys, values float32) error {
	p := problems{op: "set scales"}
	c.using.Lock()
	defer c.using.Unlock()
	p.cacheLayer(c, layer)
	p.refuse(!c.format.scaled(), "format", c.format, "CacheFP8 or CacheFP8Index")
	usable := func(scale float32) bool { return scale > 0 && scale <= math.MaxFloat32 }
	p.refuse(!usable(keys), "keys", keys, "a finite number above 0")
	p.refuse(!usable(values), "values", values, "a finite number above 0")
	if err := p.err(); err != nil {
		return err
	}
	c.layers[layer].keyScale, c.layers[layer].valueScale = keys, values
	return nil
}

// Pages returns the number of pages of each layer.
func (c *Cache) Pages() int { return len(c.pages.refs) }

// FreePages returns how many pages no sequence holds. The cache does not know which pages
// an engine hands out by block tables and counts all of those as free.
func (c *Cache) FreePages() int { return c.pages.freeCount() }

// Bytes returns the device memory of the cache.
func (c *Cache) Bytes() int64 {
	keys, index, _ := c.pageBytes(c.Pages()) // NewCache checked it
	frequencies := 8 * int64(len(c.geometry.Rope.Frequencies))
	return int64(c.Pages())*int64(len(c.layers))*(2*keys+index) + frequencies
}

// copyPage copies all layers of page src to page dst.
func (c *Cache) copyPage(dst, src int32) error {
	keys, index, err := c.pageBytes(c.Pages())
	if err != nil {
		return err
	}
	for l := range c.layers {
		for i, p := range c.layers[l].buffers() {
			n := [...]int64{keys, keys, index}[i]
			if n == 0 {
				continue
			}
			if err := c.device.Copy(p.Add(int64(dst)*n), p.Add(int64(src)*n), n); err != nil {
				return fmt.Errorf("copy page %d to %d: %w", src, dst, err)
			}
		}
	}
	return nil
}

// Close frees the device memory, and what of it an earlier call could not free, after the
// calls and launches under way. Sequences that are still open can then only be truncated or
// closed. Calls after the first do nothing else.
func (c *Cache) Close() error {
	if c.device == nil {
		return nil
	}
	c.pages.close()
	c.using.Lock()
	defer c.using.Unlock()
	if err := c.free(); err != nil {
		return fmt.Errorf("attention: close cache: %w", err)
	}
	return nil
}

// free gives all memory back. What the device keeps stays known.
func (c *Cache) free() error {
	var errs []error
	free := func(p *hip.Ptr) {
		err := c.device.Free(*p)
		if err == nil {
			*p = 0
		}
		errs = append(errs, err)
	}
	free(&c.frequencies)
	for l := range c.layers {
		layer := &c.layers[l]
		free(&layer.keys)
		free(&layer.values)
		free(&layer.indexKeys)
	}
	return errors.Join(errs...)
}
