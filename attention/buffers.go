package attention

import "github.com/drafthead/drafthead/hip"

// Buffers returns the memory of a layer, valid until Close: the addresses of the keys,
// values and index keys, in this order, and the bytes of a page in each: the zero Ptr and 0
// for the index keys of dense attention. [Cache] describes the layout. It is for engines that move pages themselves, to and from the host or from
// where a prompt was processed. The caller must order its writes with the passes that read
// this memory, and is responsible for what rows then see. A layer that does not exist is a
// [hip.InputError], a closed cache is [ErrClosed].
func (c *Cache) Buffers(layer int) (data []hip.Ptr, pageBytes []int64, err error) {
	p := problems{op: "buffers"}
	c.using.RLock()
	defer c.using.RUnlock()
	l := p.cacheLayer(c, layer)
	if err := p.err(); err != nil {
		return nil, nil, err
	}
	keys, index, err := c.pageBytes(c.Pages())
	if err != nil {
		return nil, nil, err
	}
	return l.buffers(), []int64{keys, keys, index}, nil
}

// buffers returns the layer's memory.
func (l *cacheLayer) buffers() []hip.Ptr { return []hip.Ptr{l.keys, l.values, l.indexKeys} }
