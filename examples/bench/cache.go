package main

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/synthetic"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// valueBytes returns the bytes of a value in a cache: of keys and values, and of index keys.
func valueBytes(format attention.CacheFormat) (keys, index int64) {
	switch format {
	case attention.CacheF32:
		return 4, 4
	case attention.CacheFP8:
		return 1, 2
	case attention.CacheFP8Index:
		return 1, 1
	}
	return 2, 2
}

// fillCache writes keys, values and index keys of N(0, 1) to all pages, which is
// the size that norms give them. A long context then needs no prefill: an engine's
// block table says that its positions are there. They must not be zeros: all
// scores would be equal, the lowest blocks would always be selected, and the
// selection would be quicker than it is.
func fillCache(d hip.Device, cache *mtp.Cache, format attention.CacheFormat, progress func(done, total int64)) error {
	buffers, pageBytes, err := cache.Buffers(0)
	if err != nil {
		return err
	}
	pages := int64(cache.Pages())
	values, part := make([]byte, synthetic.ChunkSize), make([]byte, 0, 2*synthetic.ChunkSize)
	done, total := int64(0), int64(0)
	for _, n := range pageBytes {
		total += pages * n
	}
	keys, index := valueBytes(format)
	for i, p := range buffers {
		size := []int64{keys, keys, index}[i]
		random := synthetic.NewNormal([]string{"keys", "values", "index keys"}[i])
		for off, n := int64(0), pages*pageBytes[i]/size; off < n; off += int64(len(values)) / 2 {
			values := values[:2*min(int64(len(values))/2, n-off)]
			random.ReadAt(values, 2*off)
			part = appendStored(part[:0], values, size)
			if err := d.Write(p.Add(off*size), part); err != nil {
				return fmt.Errorf("cache: %w", err)
			}
			done += int64(len(part))
			progress(done, total)
		}
	}
	return nil
}

// appendStored appends bfloat16 values in so many bytes each: as they are, as float32, or
// as F8_E4M3.
func appendStored(to, values []byte, size int64) []byte {
	if size == 2 {
		return append(to, values...)
	}
	for ; len(values) > 0; values = values[2:] {
		v := hip.BF16(binary.LittleEndian.Uint16(values)).Float32()
		if size == 4 {
			to = binary.LittleEndian.AppendUint32(to, math.Float32bits(v))
		} else {
			to = append(to, byte(hip.ToE4M3(v)))
		}
	}
	return to
}
