package reference

import (
	"math"

	"github.com/nlpodyssey/spago/mat"
)

// newMatrix returns a rows × cols matrix over values, in row-major order.
func newMatrix(rows, cols int, values []float64) mat.Matrix {
	return mat.NewDense[float64](mat.WithShape(rows, cols), mat.WithBacking(values))
}

// inFloat64 returns m, converted if its elements are float32: rows are read and written in place.
func inFloat64(m mat.Matrix) mat.Matrix {
	if _, ok := m.(*mat.Dense[float64]); ok {
		return m
	}
	return newMatrix(m.Shape()[0], m.Shape()[1], mat.Data[float64](m))
}

// zeros returns a rows × cols matrix of zeros.
func zeros(rows, cols int) mat.Matrix {
	return newMatrix(rows, cols, make([]float64, rows*cols))
}

// row returns row i of m in place.
func row(m mat.Matrix, i int) []float64 {
	cols := m.Shape()[1]
	return mat.Data[float64](m)[i*cols : (i+1)*cols]
}

// gather returns the given rows of m, copied.
func gather(m mat.Matrix, rows []int) mat.Matrix {
	out := zeros(len(rows), m.Shape()[1])
	for i, r := range rows {
		copy(row(out, i), row(m, r))
	}
	return out
}

// columns returns the columns [from, to) of m, copied.
func columns(m mat.Matrix, from, to int) mat.Matrix {
	return m.Slice(0, from, m.Shape()[0], to)
}

// stack returns the rows of a above those of b.
func stack(a, b mat.Matrix) mat.Matrix {
	values := append(append([]float64{}, mat.Data[float64](a)...), mat.Data[float64](b)...)
	return newMatrix(a.Shape()[0]+b.Shape()[0], a.Shape()[1], values)
}

// concat returns the rows of a, each followed by the same row of b.
func concat(a, b mat.Matrix) mat.Matrix {
	rows, left := a.Shape()[0], a.Shape()[1]
	out := zeros(rows, left+b.Shape()[1])
	for i := range rows {
		copy(row(out, i), row(a, i))
		copy(row(out, i)[left:], row(b, i))
	}
	return out
}

// linear applies a stored weight of shape [out, in] to every row of x: W·x.
func linear(weight, x mat.Matrix) mat.Matrix {
	return weight.Mul(x.T()).T()
}

// rms is the Gemma RMSNorm of every head of width len(w) in every row:
//
//	rms(x; w) = x / sqrt(mean(x²) + eps) · (1 + w)
func rms(x mat.Matrix, w []float64, eps float64) mat.Matrix {
	out := x.Clone()
	values := mat.Data[float64](out)
	for ; len(values) > 0; values = values[len(w):] {
		squares := 0.0
		for j := range w {
			squares += values[j] * values[j]
		}
		scale := 1 / math.Sqrt(squares/float64(len(w))+eps)
		for j := range w {
			values[j] *= scale * (1 + w[j])
		}
	}
	return out
}

// sigmoid is 1 / (1 + e^−x).
func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// softmax turns every row of scores into weights that sum to 1.
func softmax(scores mat.Matrix) mat.Matrix {
	out := scores.Clone()
	for i := range out.Shape()[0] {
		values := row(out, i)
		most := math.Inf(-1)
		for _, x := range values {
			most = max(most, x)
		}
		sum := 0.0
		for j, x := range values {
			values[j] = math.Exp(x - most)
			sum += values[j]
		}
		for j := range values {
			values[j] /= sum
		}
	}
	return out
}
