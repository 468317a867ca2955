package attention

import "github.com/drafthead/drafthead/hip"

// Buffers returns the memory of a layer, valid until Close, laid out as described at
// [Cache]: keys, values and index keys, in this order, where each begins and its bytes of a
// page. They hold page by page. It is for engines that move pages
// themselves: to and from the host, or from where a prompt was processed. Who writes it
// orders that with the passes that read it, and answers for what rows then see. Another
// layer is an [hip.InputError], a closed cache is [ErrClosed].
func (c *Cache) Buffers(layer int) (data []hip.Ptr, pageBytes []int64, err error) {
	p := problems{op: "buffers"}
	l := p.cacheLayer(c, layer)
	if err := p.err(); err != nil {
		return nil, nil, err
	}
	keys, index, err := c.pageBytes()
	if err != nil {
		return nil, nil, err
	}
	return l.buffers(), []int64{keys, keys, index}, nil
}

// buffers returns the layer's memory.
func (l *cacheLayer) buffers() []hip.Ptr { return []hip.Ptr{l.keys, l.values, l.indexKeys} }
