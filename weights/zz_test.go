package weights
import ("testing";"math/rand/v2")
func BenchmarkZ(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	const n = 6144
	data := make([]byte, 4*n); for i := range data { data[i] = byte(r.Uint32())&0xbf }
	scale := make([]byte, n/32*4); for i := range scale { scale[i] = 60 }
	x := make([]float32, n); for i := range x { x[i] = r.Float32() }
	w := make([]float32, n)
	var s float32
	for _, f := range []Format{MXFP8, FP8F32, F16, BF16, F32} {
		b.Run("decode"+f.String(), func(b *testing.B) { b.SetBytes(n); for b.Loop() { f.Decode(w, data, scale) } })
	}
	b.Run("dotMX", func(b *testing.B) { b.SetBytes(n); for b.Loop() { s += dotMXFP8(data[:n], scale, x) } })
	b.Run("dotBF16", func(b *testing.B) { b.SetBytes(n); for b.Loop() { s += dotBF16(data[:2*n], x) } })
	b.Run("dotF32", func(b *testing.B) { b.SetBytes(n); for b.Loop() { s += dotF32(w, x) } })
	_ = s
}
func dot2F32(w, x, z []float32) (float32, float32) {
	sum, tum := 0.0, 0.0
	for len(w) >= chunk && len(x) >= chunk && len(z) >= chunk {
		a, b, c := (*[chunk]float32)(w), (*[chunk]float32)(x), (*[chunk]float32)(z)
		var s0, s1, s2, s3, t0, t1, t2, t3 float32
		for i := 0; i < chunk; i += 4 {
			s0 += a[i] * b[i]
			t0 += a[i] * c[i]
			s1 += a[i+1] * b[i+1]
			t1 += a[i+1] * c[i+1]
			s2 += a[i+2] * b[i+2]
			t2 += a[i+2] * c[i+2]
			s3 += a[i+3] * b[i+3]
			t3 += a[i+3] * c[i+3]
		}
		sum += float64(s0 + s1 + (s2 + s3))
		tum += float64(t0 + t1 + (t2 + t3))
		w, x, z = w[chunk:], x[chunk:], z[chunk:]
	}
	return float32(sum), float32(tum)
}
func BenchmarkY(b *testing.B) {
	const n = 6144
	x := make([]float32, n); for i := range x { x[i] = 1 }
	z := make([]float32, n)
	w := make([]float32, n)
	var s,t float32
	b.Run("dotF32", func(b *testing.B) { b.SetBytes(2*n); for b.Loop() { s += dotF32(w, x); t+=dotF32(w,z) } })
	b.Run("dot2F32", func(b *testing.B) { b.SetBytes(2*n); for b.Loop() { p,q := dot2F32(w, x,z);s+=p;t+=q } })
	_ = s
}
