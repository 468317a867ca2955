package main

import (
	"fmt"

	"github.com/drafthead/drafthead/examples/internal/synthetic"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// fillCache writes keys, values and index keys of N(0, 1) to all pages, which is
// the size that norms give them. A long context then needs no prefill: an engine's
// block table says that its positions are there. They must not be zeros: all
// scores would be equal, the lowest blocks would always be selected, and the
// selection would be quicker than it is.
func fillCache(d hip.Device, cache *mtp.Cache, progress func(done, total int64)) error {
	b, err := cache.Buffers(0)
	if err != nil {
		return err
	}
	pages := int64(cache.Pages())
	buffer := make([]byte, synthetic.ChunkSize)
	done, total := int64(0), pages*(2*b.PageBytes+b.IndexPageBytes)
	for name, to := range map[string]struct {
		p hip.Ptr
		n int64
	}{"keys": {b.Keys, pages * b.PageBytes}, "values": {b.Values, pages * b.PageBytes}, "index keys": {b.IndexKeys, pages * b.IndexPageBytes}} {
		random := synthetic.NewNormal(name)
		for off := int64(0); off < to.n; off += int64(len(buffer)) {
			part := buffer[:min(int64(len(buffer)), to.n-off)]
			random.ReadAt(part, off)
			if err := d.Write(to.p.Add(off), part); err != nil {
				return fmt.Errorf("cache: %w", err)
			}
			done += int64(len(part))
			progress(done, total)
		}
	}
	return nil
}
