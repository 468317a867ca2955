package weights

import (
	"encoding/binary"
	"math"

	"github.com/drafthead/drafthead/hip"
)

// Multiply is [Rows.Multiply64] for the host: products in float32, summed in
// float32 over at most 32 columns and over these sums in float64, so that the
// error does not grow with the number of columns. One row of x is multiplied
// with the weights as they are stored; for several, a row of weights is decoded
// once.
func (r *Rows) Multiply(y []float32, yStride, first, count int, x []float32, n int) {
	if n == 1 {
		for j := range count {
			y[j] = r.dot(first+j, x[:r.cols])
		}
		return
	}
	w := r.decoded()
	for j := range count {
		r.Decode(w, first+j)
		for i := range n {
			y[i*yStride+j] = dotF32(w, x[i*r.cols:(i+1)*r.cols])
		}
	}
}

// dot multiplies one stored row with x.
func (r *Rows) dot(row int, x []float32) float32 {
	f, data, scale := r.encoded(row)
	switch f {
	case MXFP8:
		return dotMXFP8(data, scale, x)
	case BF16:
		return dotBF16(data, x)
	}
	w := r.decoded()
	f.Decode(w, data, scale)
	return dotF32(w, x)
}

// chunk is the columns summed in float32.
const chunk = 32

func dotF32(w, x []float32) float32 {
	sum := 0.0
	for len(w) >= chunk && len(x) >= chunk {
		a, b := (*[chunk]float32)(w), (*[chunk]float32)(x)
		var s0, s1, s2, s3 float32
		for i := 0; i < chunk; i += 4 {
			s0 += a[i] * b[i]
			s1 += a[i+1] * b[i+1]
			s2 += a[i+2] * b[i+2]
			s3 += a[i+3] * b[i+3]
		}
		sum += float64(s0 + s1 + (s2 + s3))
		w, x = w[chunk:], x[chunk:]
	}
	for i, v := range w {
		sum += float64(v) * float64(x[i])
	}
	return float32(sum)
}

func dotBF16(w []byte, x []float32) float32 {
	sum := 0.0
	for len(w) >= 2*chunk && len(x) >= chunk {
		a, b := (*[2 * chunk]byte)(w), (*[chunk]float32)(x)
		var s0, s1, s2, s3 float32
		for i := 0; i < chunk; i += 4 {
			four := binary.LittleEndian.Uint64(a[2*i : 2*i+8])
			s0 += math.Float32frombits(uint32(four)<<16) * b[i]
			s1 += math.Float32frombits(uint32(four)&0xffff0000) * b[i+1]
			s2 += math.Float32frombits(uint32(four>>32)<<16) * b[i+2]
			s3 += math.Float32frombits(uint32(four>>32)&0xffff0000) * b[i+3]
		}
		sum += float64(s0 + s1 + (s2 + s3))
		w, x = w[2*chunk:], x[chunk:]
	}
	for i, v := range x {
		sum += float64(hip.BF16(binary.LittleEndian.Uint16(w[2*i:])).Float32()) * float64(v)
	}
	return float32(sum)
}

func dotMXFP8(w, scale []byte, x []float32) float32 {
	sum := 0.0
	block := 0
	for len(w) >= chunk && len(x) >= chunk {
		a, b := (*[chunk]byte)(w), (*[chunk]float32)(x)
		var s0, s1, s2, s3 float32
		for i := 0; i < chunk; i += 4 {
			s0 += e4m3[a[i]] * b[i]
			s1 += e4m3[a[i+1]] * b[i+1]
			s2 += e4m3[a[i+2]] * b[i+2]
			s3 += e4m3[a[i+3]] * b[i+3]
		}
		sum += float64(s0+s1+(s2+s3)) * float64(E8M0(scale[block]))
		block++
		w, x = w[chunk:], x[chunk:]
	}
	if len(x) > 0 {
		tail := 0.0
		for i, v := range x {
			tail += float64(e4m3[w[i]]) * float64(v)
		}
		sum += tail * float64(E8M0(scale[block]))
	}
	return float32(sum)
}
