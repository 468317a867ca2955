package attention

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// problems gathers everything wrong with the arguments of one operation.
type problems struct {
	op   string // without the package's name
	errs []error
}

func (p *problems) refuse(bad bool, field string, got any, want string) {
	if bad {
		p.errs = append(p.errs, &hip.InputError{Op: "attention: " + p.op, Field: field, Got: got, Want: want})
	}
}

func (p *problems) err() error { return errors.Join(p.errs...) }

// launched names the operation in an error of its launch.
func (p *problems) launched(err error) error {
	if err != nil {
		return fmt.Errorf("attention: %s: %w", p.op, err)
	}
	return nil
}

// layer checks that b can be launched over a layer of its cache, and returns it.
func (p *problems) layer(b *Batch, layer int) cacheLayer { return p.cacheLayer(b.cache, layer) }

// enter begins a launch of the batch's cache, which Close waits for; [Batch.leave] ends it.
func (p *problems) enter(b *Batch) error {
	if b.zero() {
		return zeroBatch(p.op)
	}
	b.cache.using.RLock()
	return nil
}

func (b *Batch) leave() { b.cache.using.RUnlock() }

// zero reports whether the batch is of no cache.
func (b *Batch) zero() bool { return b == nil || b.cache == nil }

func zeroBatch(op string) error {
	return &hip.InputError{Op: "attention: " + op, Field: "batch", Got: "nil or a zero Batch", Want: "one of NewBatch"}
}

// cacheLayer returns a layer of an open cache.
func (p *problems) cacheLayer(c *Cache, layer int) cacheLayer {
	if layer < 0 || layer >= len(c.layers) {
		p.refuse(true, "layer", layer, fmt.Sprintf("0 to %d", len(c.layers)-1))
		return cacheLayer{}
	}
	if c.layers[layer].keys == 0 {
		p.errs = append(p.errs, fmt.Errorf("attention: %s: cache is %w", p.op, ErrClosed))
	}
	return c.layers[layer]
}

// sparse refuses what selects blocks, over a cache that has no index keys.
func (p *problems) sparse(b *Batch) {
	p.refuse(b.cache.geometry.dense(), "Geometry.IndexDim", 0, "at least 1: dense attention selects no blocks")
}

// unneeded refuses memory that dense attention does not read.
func (p *problems) unneeded(_ *Batch, ptr hip.Ptr, field string) {
	p.refuse(ptr != 0, field, "an address", "none, since Geometry.IndexDim is 0")
}

// memory checks that an address is given, where there are rows.
func (p *problems) memory(b *Batch, ptr hip.Ptr, field string) {
	p.refuse(ptr == 0 && b.rows > 0, field, "missing", "an address")
}
