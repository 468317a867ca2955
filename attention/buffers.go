package attention

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// Buffers is the device memory of one layer of a [Cache], laid out as described
// there. It is for engines that move pages themselves: to and from the host, or
// from where a prompt was processed.
type Buffers struct {
	Keys, Values hip.Ptr // PageBytes for each page
	IndexKeys    hip.Ptr // IndexPageBytes for each page

	PageBytes, IndexPageBytes int64
}

// Buffers returns the memory of a layer, valid until Close. Who writes it orders
// that with the passes that read it, and answers for what rows then see.
func (c *Cache) Buffers(layer int) (Buffers, error) {
	if layer < 0 || layer >= len(c.layers) {
		return Buffers{}, &ArgumentError{"buffers", "layer", layer, fmt.Sprintf("0 to %d", len(c.layers)-1)}
	}
	l := &c.layers[layer]
	keys, index, err := c.pageBytes()
	return Buffers{l.keys, l.values, l.indexKeys, keys, index}, err
}
