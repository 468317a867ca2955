package weights

import (
	"encoding/binary"
	"math"

	"github.com/drafthead/drafthead/hip"
)

// directRows is up to how many rows of x the stored weights are read for each,
// rather than decoded once for all.
const directRows = 3

// multiplyPlain is [Rows.Multiply] in plain Go: products in float32, summed in
// float32 over 32 columns and over these sums in float64; columns after the last 32
// in float64. A row of y does not depend on n: a power-of-two scale may be applied
// before or after a sum, without a difference within the range of float32.
func (r *Rows) multiplyPlain(y []float32, yStride int, s *run, x *operand) {
	w := r.decoded()
	for j := range s.rows {
		f := s.format
		data, scale := s.row(j, 0, r.cols)
		if x.n > directRows || f != MXFP8 && f != BF16 {
			f.Decode(w, data, scale)
			f = F32
		}
		for i := range x.n {
			row, sum := x.x[i*r.cols:(i+1)*r.cols], &y[i*yStride+j]
			switch f {
			case MXFP8:
				*sum = dotMXFP8(data, scale, row)
			case BF16:
				*sum = dotBF16(data, row)
			default:
				*sum = dotF32(w, row)
			}
		}
	}
}

// chunk is the columns summed in float32, in four strands: column c in strand
// c mod 4, and then (0 + 1) + (2 + 3). It is also the columns of an MXFP8 scale.
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
		sum += float64(s0+s1+(s2+s3)) * float64(valueOfE8M0(scale[block]))
		block++
		w, x = w[chunk:], x[chunk:]
	}
	for i, v := range x {
		sum += float64(e4m3[w[i]]*valueOfE8M0(scale[block])) * float64(v)
	}
	return float32(sum)
}
