package attention

import "github.com/drafthead/drafthead/hip"

// Buffer is device memory of one layer of a [Cache]: PageBytes for each page, page by page.
type Buffer struct {
	Data      hip.Ptr
	PageBytes int64
}

// Buffers returns the memory of a layer, valid until Close, laid out as described at
// [Cache]: keys, values and index keys, in this order. It is for engines that move pages
// themselves, to and from the host or from where a prompt was processed. The caller must
// order its writes with the passes that read this memory, and is responsible for what rows
// then see. A layer that does not exist is a [hip.InputError], a closed cache is
// [ErrClosed].
func (c *Cache) Buffers(layer int) ([]Buffer, error) {
	p := problems{op: "buffers"}
	l := p.cacheLayer(c, layer)
	if err := p.err(); err != nil {
		return nil, err
	}
	keys, index, err := c.pageBytes()
	if err != nil {
		return nil, err
	}
	return l.buffers(keys, index), nil
}

// buffers returns the layer's memory, of so many bytes for a page of keys and of index keys.
func (l *cacheLayer) buffers(keys, index int64) []Buffer {
	return []Buffer{{l.keys, keys}, {l.values, keys}, {l.indexKeys, index}}
}
