package reference

import (
	"math"

	"github.com/nlpodyssey/spago/mat"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// rounding is how a cache rounds a value, and gives it back.
type rounding func(x float64) float64

// roundings returns how Head.CacheFormat rounds a module's keys, values and index keys.
func (h *Head) roundings(m *module) (k, v, indexK rounding) {
	exact := func(x float64) float64 { return x }
	fp8 := func(scale float64) rounding {
		return func(x float64) float64 { return toE4M3(x/scale) * scale }
	}
	switch h.CacheFormat {
	case attention.CacheBF16:
		return toBF16, toBF16, toBF16
	case attention.CacheFP8:
		return fp8(m.kScale), fp8(m.vScale), toBF16
	case attention.CacheFP8Index:
		return fp8(m.kScale), fp8(m.vScale), toE4M3
	}
	return exact, exact, exact
}

// rounded returns a copy of x with every value rounded.
func (r rounding) rounded(x mat.Matrix) mat.Matrix {
	out := x.Clone()
	for i, v := range mat.Data[float64](out) {
		mat.Data[float64](out)[i] = r(v)
	}
	return out
}

// toBF16 rounds to 8 significant bits, ties to even.
func toBF16(x float64) float64 {
	rounded := toStep(x, 8, -133)
	if math.Abs(rounded) >= 0x1p128 {
		return math.Copysign(math.Inf(1), x)
	}
	return rounded
}

// toE4M3 rounds to 4 significant bits or multiples of 2^−9, ties to even, and beyond 448 to
// 448.
func toE4M3(x float64) float64 { return max(-448, min(448, toStep(x, 4, -9))) }

// toStep rounds to so many significant bits, and at least to multiples of 2^least.
func toStep(x float64, bits, least int) float64 {
	if math.IsInf(x, 0) || x != x {
		return x
	}
	_, exponent := math.Frexp(x) // |x| in [2^(exponent−1), 2^exponent)
	step := math.Ldexp(1, max(exponent-bits, least))
	return math.RoundToEven(x/step) * step
}

// cacheScales reads the scales of an FP8 cache from the attention's tensors, 1 where there is
// none. A scale of keys alone, under any of its names, is one for values too.
func (l *loader) cacheScales(attn string) (k, v float64) {
	k = l.scalar(1, attn+"k_proj.k_scale", attn+"attn.k_scale", attn+"k_scale", attn+"kv_scale")
	return k, l.scalar(k, attn+"v_proj.v_scale", attn+"attn.v_scale", attn+"v_scale")
}

// scalar decodes the first of the tensors that there is, or returns otherwise.
func (l *loader) scalar(otherwise float64, names ...string) float64 {
	for _, name := range names {
		t, ok := l.find(name)
		if !ok {
			continue
		}
		values, err := elements(t, []int{}, safetensors.F32, safetensors.BF16, safetensors.F16)
		if err != nil {
			l.fail(err)
			return otherwise
		}
		return values[0]
	}
	return otherwise
}
