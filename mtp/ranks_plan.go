package mtp

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"math"

	"github.com/drafthead/drafthead/mtp/internal/staging"
)

// plan adds what must be the same on all ranks to the hash of all calls.
func (r *ranks) plan(plan []byte) {
	sum := fnv.New64a()
	sum.Write(binary.LittleEndian.AppendUint64(nil, r.plans))
	sum.Write(plan)
	r.plans = sum.Sum64()
}

// planMask adds what one of Rows.Allowed has returned: a mask, or an error of it.
func (r *ranks) planMask(mask []uint32, err error) {
	plan := binary.LittleEndian.AppendUint32(nil, checksum(mask))
	if err != nil {
		plan = append(plan, err.Error()...)
	}
	r.plan(plan)
}

func checksum[T uint16 | uint32 | float32](values []T) uint32 {
	return crc32.Checksum(staging.Bytes(values), castagnoli)
}

// checksum is that of hidden states of rows in host memory: of all values, which takes 2 µs
// for a row of 6144, or of many rows of the first values of each. Those in device memory
// count as 0.
func (h *Hidden) checksum(rows int) uint32 {
	return checksumRows(h.Float32, rows) ^ checksumRows(h.BFloat16, rows)
}

func checksumRows[T uint16 | float32](values []T, rows int) uint32 {
	const most, some = 1 << 18, 64
	if len(values) <= most {
		return checksum(values)
	}
	sum, width := uint32(0), len(values)/rows
	for i := range rows {
		row := values[i*width:][:min(width, some)]
		sum = crc32.Update(sum, castagnoli, staging.Bytes(row))
	}
	return sum
}

// appendPlan appends what must be the same of a batch on all ranks. The tables of pages are
// each rank's own.
func (b *Batch) appendPlan(plan []byte, kind byte, step int) []byte {
	word := func(values ...int) {
		for _, v := range values {
			plan = binary.LittleEndian.AppendUint64(plan, uint64(v))
		}
	}
	plan = append(plan, kind)
	word(step, len(b.Sequences))
	for i := range b.Sequences {
		r := &b.Sequences[i]
		word(r.Position, len(r.Tokens), r.Drafts, int(math.Float64bits(r.MinProbability)))
		for _, t := range r.Tokens {
			plan = binary.LittleEndian.AppendUint32(plan, uint32(t))
		}
		if s := r.Sampling; s != nil {
			plan = fmt.Appendf(plan, "%+v", *s)
		}
	}
	for _, h := range []*Hidden{&b.Hidden, &b.Embeds} {
		plan = binary.LittleEndian.AppendUint32(plan, h.checksum(b.rows()))
	}
	return plan
}
