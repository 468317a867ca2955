package attention

import (
	"unsafe"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/vec"
)

// chunkKeys is how many keys or values are widened to float32 at a time: they
// stay in the first-level cache until they are multiplied.
const chunkKeys = 32

// headLanes attends with vector instructions, laneHeads query heads at a time:
//
//	scores[j][h] = Σ key[j][d] · (scale·q[h][d])      d ascending, fused, float32
//	softmax over j as vec.Softmax
//	out[h][d]    = Σ scores[j][h] · value[j][d]       chunks of up to 32 keys, fused,
//	                                                  and then the chunks, float32
//
// Lanes without a head hold zeros, or anything, and are not read.
type headLanes struct {
	a    *sparseArgs
	simd hip.SIMD

	dim, padded int        // padded: to whole vectors
	queries     []float32  // [dim, laneHeads]
	scores      []float32  // [keys, laneHeads], then room for what a group of 16 is short of
	chunk       []float32  // [chunkKeys, padded]
	words       []hip.BF16 // [chunkKeys, padded]: codes of F8_E4M3 on their way to float32
	sums        []float32  // [laneHeads, padded]
}

func newHeadLanes(b *hip.Blocks, a *sparseArgs) *headLanes {
	dim := int(a.HeadDim)
	padded := (dim + 31) / 32 * 32
	t := &headLanes{
		a: a, simd: b.SIMD(), dim: dim, padded: padded,
		queries: hip.Scratch[float32](b, dim*laneHeads),
		scores:  hip.Scratch[float32](b, (a.mostKeys()+15)*laneHeads),
		chunk:   hip.Scratch[float32](b, chunkKeys*padded),
		sums:    hip.Scratch[float32](b, laneHeads*padded),
	}
	if element(a.Format) == CacheFP8 {
		t.words = hip.Scratch[hip.BF16](b, chunkKeys*padded)
	}
	clear(t.chunk) // of which columns past dim stay zero
	return t
}

// attend does the heads of q over the selected keys.
func (t *headLanes) attend(q, out []float32, selected selectedKeys) {
	for len(q) > 0 {
		n := min(laneHeads*t.dim, len(q))
		t.lanes(q[:n], out[:n], &selected)
		q, out = q[n:], out[n:]
	}
}

func (t *headLanes) lanes(q, out []float32, selected *selectedKeys) {
	t.setQueries(q)
	n, most := 0, t.a.mostKeys()
	t.walk(t.a.Keys, selected, func(c chunk) {
		scores := t.scores[: most*laneHeads : most*laneHeads][n*laneHeads:][:c.n*laneHeads]
		keyScores(t.simd, &keyScoresArgs{
			Scores: &scores[0], Queries: &t.queries[0], Keys: c.values, Dim: t.dim, Stride: t.padded,
			Groups: (c.n + 15) / 16, Ahead: c.ahead, AheadStep: 16 * int(elementBytes(element(t.a.Format))),
		})
		n += c.n
	})
	if n == 0 {
		clear(out)
		return
	}
	vec.Softmax(t.simd, t.scores[:n*laneHeads], laneHeads)
	clear(t.sums)
	n = 0
	t.walk(t.a.Values, selected, func(c chunk) {
		addValues(t.simd, &addValuesArgs{
			Sums: &t.sums[0], Weights: &t.scores[n*laneHeads], Values: c.values, Dim: t.padded,
			Keys: c.n, Ahead: c.ahead, AheadStep: 16 * int(elementBytes(element(t.a.Format))),
		})
		n += c.n
	})
	for h := range len(q) / t.dim {
		copy(out[h*t.dim:(h+1)*t.dim], t.sums[h*t.padded:])
	}
	t.a.scaleValues(out)
}

// setQueries lays out the scaled queries of up to laneHeads heads, head by lane.
func (t *headLanes) setQueries(q []float32) {
	scale := float32(t.a.scoreScale())
	heads := len(q) / t.dim
	if heads < laneHeads {
		clear(t.queries)
	}
	for h := range heads {
		lane := t.queries[h:]
		for d, v := range q[h*t.dim : (h+1)*t.dim] {
			lane[d*laneHeads] = v * scale
		}
	}
}

// chunk is up to chunkKeys vectors as float32, padded values apart, with room
// for a whole group of 16 after them.
type chunk struct {
	values *float32
	n      int
	ahead  uintptr // what follows in the cache
}

// walk calls f for all selected vectors at p.
func (t *headLanes) walk(p hip.Ptr, selected *selectedKeys, f func(c chunk)) {
	var next vectors
	for i, run := range selected.runs {
		stored := next
		if i == 0 {
			stored = selected.read(p, 0)
		}
		if i+1 < len(selected.runs) {
			next = selected.read(p, i+1)
		}
		for from := 0; from < run.n; from += chunkKeys {
			c := t.open(stored.slice(from, min(from+chunkKeys, run.n)))
			if from+chunkKeys < run.n {
				c.ahead = stored.slice(from+chunkKeys, run.n).address()
			} else {
				c.ahead = next.address()
			}
			f(c)
		}
	}
}

// open returns stored vectors in place, where they are such, or widened.
func (t *headLanes) open(stored vectors) chunk {
	n := stored.len()
	switch {
	case t.dim != t.padded:
		for i := range n {
			row := t.chunk[i*t.padded:][:t.dim]
			copy(row, stored.at(i, row))
		}
	case stored.fp8 != nil:
		widenFP8(t.simd, &t.words[0], &stored.fp8[0], len(stored.fp8))
		widenVector(t.simd, &t.chunk[0], &t.words[0], len(stored.fp8))
	case stored.bf16 != nil:
		widenVector(t.simd, &t.chunk[0], &stored.bf16[0], len(stored.bf16))
	case n%16 == 0:
		return chunk{values: &stored.f32[0], n: n}
	default:
		copy(t.chunk, stored.f32)
	}
	return chunk{values: &t.chunk[0], n: n}
}

// address is a hint of where the vectors lie.
func (v vectors) address() uintptr {
	switch {
	case v.f32 != nil:
		return uintptr(unsafe.Pointer(unsafe.SliceData(v.f32)))
	case v.fp8 != nil:
		return uintptr(unsafe.Pointer(unsafe.SliceData(v.fp8)))
	}
	return uintptr(unsafe.Pointer(unsafe.SliceData(v.bf16)))
}
