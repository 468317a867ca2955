package attention

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// CacheFormat is how keys, values and index keys are stored.
type CacheFormat int32

const (
	// CacheBF16 rounds to bfloat16, to nearest even. The zero value.
	CacheBF16 CacheFormat = iota
	// CacheF32 stores float32 as computed.
	CacheF32
	// CacheFP8 stores keys and values in F8_E4M3, each divided by its layer's scale (see
	// [Cache.SetScales]) and rounded once, to nearest even; beyond 448 it is 448. Index keys
	// are bfloat16.
	CacheFP8
	// CacheFP8Index is CacheFP8 with index keys in F8_E4M3 too, by a scale of 1.
	CacheFP8Index
)

// String returns the name of the format, such as "BF16".
func (f CacheFormat) String() string {
	switch f {
	case CacheBF16:
		return "BF16"
	case CacheF32:
		return "F32"
	case CacheFP8:
		return "FP8"
	case CacheFP8Index:
		return "FP8, index keys too"
	}
	return fmt.Sprintf("CacheFormat(%d)", int32(f))
}

// cacheFormats names them in errors.
const cacheFormats = "CacheBF16, CacheF32, CacheFP8 or CacheFP8Index"

// valid reports whether f is one of the formats.
func (f CacheFormat) valid() bool { return f >= CacheBF16 && f <= CacheFP8Index }

// scaled reports whether keys and values are stored by scales.
func (f CacheFormat) scaled() bool { return f == CacheFP8 || f == CacheFP8Index }

// element is how one value is stored. The kernels know these: CacheBF16, CacheF32 and
// CacheFP8.
type element = CacheFormat

// keys is the element of keys and values.
func (f CacheFormat) keys() element {
	if f.scaled() {
		return CacheFP8
	}
	return f
}

// indexKeys is the element of index keys.
func (f CacheFormat) indexKeys() element {
	switch f {
	case CacheFP8:
		return CacheBF16
	case CacheFP8Index:
		return CacheFP8
	}
	return f
}

// elementBytes is the size of one value.
func elementBytes(e element) int64 {
	switch e {
	case CacheF32:
		return 4
	case CacheFP8:
		return 1
	}
	return 2
}

// vectors is a run of stored vectors of dim values each, of one element.
type vectors struct {
	dim  int
	f32  []float32
	bf16 []hip.BF16
	fp8  []hip.E4M3
}

// readVectors views n vectors at p, from vector first on.
func readVectors(b *hip.Blocks, p hip.Ptr, e element, dim int, first int64, n int) vectors {
	at := p.Add(first * int64(dim) * elementBytes(e))
	switch e {
	case CacheF32:
		return vectors{dim: dim, f32: hip.In[float32](b, at, n*dim)}
	case CacheFP8:
		return vectors{dim: dim, fp8: hip.In[hip.E4M3](b, at, n*dim)}
	}
	return vectors{dim: dim, bf16: hip.In[hip.BF16](b, at, n*dim)}
}

// at returns vector i, without its scale: in place, or converted into buf, which has dim
// values.
func (v vectors) at(i int, buf []float32) []float32 {
	from, to := i*v.dim, (i+1)*v.dim
	buf = buf[:v.dim]
	switch {
	case v.f32 != nil:
		return v.f32[from:to]
	case v.fp8 != nil:
		for j, s := range v.fp8[from:to] {
			buf[j] = s.Float32()
		}
	default:
		for j, s := range v.bf16[from:to] {
			buf[j] = s.Float32()
		}
	}
	return buf
}

// len is the number of vectors; the zero value has none.
func (v vectors) len() int {
	if v.dim == 0 {
		return 0
	}
	return (len(v.f32) + len(v.bf16) + len(v.fp8)) / v.dim
}

// slice returns vectors from … to−1.
func (v vectors) slice(from, to int) vectors {
	from, to = from*v.dim, to*v.dim
	switch {
	case v.f32 != nil:
		return vectors{dim: v.dim, f32: v.f32[from:to]}
	case v.fp8 != nil:
		return vectors{dim: v.dim, fp8: v.fp8[from:to]}
	}
	return vectors{dim: v.dim, bf16: v.bf16[from:to]}
}

// storeVector writes x as vector index at p. Only E4M3 is stored by a scale.
func storeVector(b *hip.Blocks, p hip.Ptr, e element, index int64, x []float32, scale float32) {
	at := p.Add(index * int64(len(x)) * elementBytes(e))
	switch e {
	case CacheF32:
		copy(hip.Out[float32](b, at, len(x)), x)
		return
	case CacheFP8:
		stored := hip.Out[hip.E4M3](b, at, len(x))
		for i, v := range x {
			stored[i] = hip.ToE4M3(v / scale)
		}
		return
	}
	stored := hip.Out[hip.BF16](b, at, len(x))
	whole := 0
	if hasVectors(b.SIMD()) && len(x) >= 16 {
		whole = len(x) &^ 15
		narrowVector(&stored[0], &x[0], whole)
	}
	for i := whole; i < len(x); i++ {
		stored[i] = hip.ToBF16(x[i])
	}
}
