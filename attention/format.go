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
)

func (f CacheFormat) String() string {
	switch f {
	case CacheBF16:
		return "BF16"
	case CacheF32:
		return "F32"
	}
	return fmt.Sprintf("CacheFormat(%d)", int32(f))
}

// bytes is the size of one value.
func (f CacheFormat) bytes() int64 {
	if f == CacheF32 {
		return 4
	}
	return 2
}

// vectors is a run of stored vectors of dim values each.
type vectors struct {
	dim  int
	f32  []float32
	bf16 []hip.BF16
}

// readVectors views n vectors at p, from vector first on.
func readVectors(b *hip.Blocks, p hip.Ptr, format CacheFormat, dim int, first int64, n int) vectors {
	at := p.Add(first * int64(dim) * format.bytes())
	if format == CacheF32 {
		return vectors{dim: dim, f32: hip.In[float32](b, at, n*dim)}
	}
	return vectors{dim: dim, bf16: hip.In[hip.BF16](b, at, n*dim)}
}

// at returns vector i: in place, or converted into buf, which has dim values.
func (v vectors) at(i int, buf []float32) []float32 {
	if v.f32 != nil {
		return v.f32[i*v.dim : (i+1)*v.dim]
	}
	stored := v.bf16[i*v.dim : (i+1)*v.dim]
	buf = buf[:len(stored)]
	for j, s := range stored {
		buf[j] = s.Float32()
	}
	return buf
}

// len is the number of vectors; the zero value has none.
func (v vectors) len() int {
	if v.dim == 0 {
		return 0
	}
	return (len(v.f32) + len(v.bf16)) / v.dim
}

// slice returns vectors from … to−1.
func (v vectors) slice(from, to int) vectors {
	if v.f32 != nil {
		return vectors{dim: v.dim, f32: v.f32[from*v.dim : to*v.dim]}
	}
	return vectors{dim: v.dim, bf16: v.bf16[from*v.dim : to*v.dim]}
}

// storeVector writes x as vector index at p.
func storeVector(b *hip.Blocks, p hip.Ptr, format CacheFormat, index int64, x []float32) {
	at := p.Add(index * int64(len(x)) * format.bytes())
	if format == CacheF32 {
		copy(hip.Out[float32](b, at, len(x)), x)
		return
	}
	stored := hip.Out[hip.BF16](b, at, len(x))
	whole := 0
	if b.SIMD() >= hip.SIMDAVX2 && len(x) >= 16 {
		whole = len(x) &^ 15
		narrowVector(&stored[0], &x[0], whole)
	}
	for i := whole; i < len(x); i++ {
		stored[i] = hip.ToBF16(x[i])
	}
}
