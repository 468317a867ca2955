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
	buffers, pageBytes, err := cache.Buffers(0)
	if err != nil {
		return err
	}
	pages := int64(cache.Pages())
	part := make([]byte, synthetic.ChunkSize)
	done, total := int64(0), int64(0)
	for _, n := range pageBytes {
		total += pages * n
	}
	for i, p := range buffers {
		random := synthetic.NewNormal([]string{"keys", "values", "index keys"}[i])
		for off, n := int64(0), pages*pageBytes[i]; off < n; off += int64(len(part)) {
			part := part[:min(int64(len(part)), n-off)]
			random.ReadAt(part, off)
			if err := d.Write(p.Add(off), part); err != nil {
				return fmt.Errorf("cache: %w", err)
			}
			done += int64(len(part))
			progress(done, total)
		}
	}
	return nil
}
