package attention

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// problems gathers everything wrong with the arguments of one operation.
type problems struct {
	op   string
	errs []error
}

func (p *problems) refuse(bad bool, argument string, got any, want string) {
	if bad {
		p.errs = append(p.errs, &ArgumentError{p.op, argument, got, want})
	}
}

func (p *problems) err() error { return errors.Join(p.errs...) }

// layer checks that b can be launched over a layer of its cache, and returns it.
func (p *problems) layer(b *Batch, layer int) cacheLayer {
	layers := b.cache.layers
	if layer < 0 || layer >= len(layers) {
		p.refuse(true, "layer", layer, fmt.Sprintf("0 to %d", len(layers)-1))
		return cacheLayer{}
	}
	if layers[layer].keys == 0 {
		p.errs = append(p.errs, fmt.Errorf("%s: %w", p.op, ErrClosedCache))
	}
	return layers[layer]
}

func (p *problems) qkv(b *Batch, qkv QKV) {
	columns := b.cache.geometry.Columns()
	p.memory(b, qkv.Data, "qkv")
	if qkv.Stride < columns {
		p.refuse(true, "stride of qkv", qkv.Stride, fmt.Sprintf("at least %d columns", columns))
	}
}

// memory checks that an address is given, where there are rows.
func (p *problems) memory(b *Batch, ptr hip.Ptr, argument string) {
	p.refuse(ptr == 0 && b.rows > 0, argument, "no memory", "an address")
}
