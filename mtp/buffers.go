package mtp

import (
	"fmt"

	"github.com/drafthead/drafthead/attention"
)

// Buffers returns the device memory of one layer of the cache, for an engine
// that moves pages itself: see [attention.Cache.Buffers]. A layer is a module, or
// a step of an aligned chain; another one is an [InputError].
func (c *Cache) Buffers(layer int) (attention.Buffers, error) {
	if err := c.head.enter(); err != nil {
		return attention.Buffers{}, err
	}
	defer c.head.leave()
	if c.closed {
		return attention.Buffers{}, fmt.Errorf("cache: %w", ErrClosed)
	}
	b, err := c.kv.Buffers(layer)
	return b, argumentError(err)
}
