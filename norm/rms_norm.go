package norm

import (
	_ "embed"
	"errors"
	"math"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/vec"
)

// RMSNorm computes Gemma RMSNorm of each row:
//
//	y[r] = x[r] · 1/√(mean(x[r]²) + eps) · (1 + w)
//
// x and y are float32 [rows, n], w is float32 [n]. y may be x; otherwise they must not
// overlap. The reference sums in float64, other devices in float32; y is rounded to float32
// after the multiplications. A NaN or an infinity affects only its own row. rows = 0 does
// nothing. The error joins a [hip.InputError] for every bad argument.
func RMSNorm(d hip.Device, y, x, w hip.Ptr, rows, n int, eps float64) error {
	return launch(d, "norm: rms norm", &rmsNormArgs{Y: y, X: x, W: w}, rows, n, eps)
}

// AddRMSNorm adds x to the residual stream and normalizes the sum:
//
//	residual[r] = residual[r] + x[r]            float32
//	y[r]        = RMSNorm(residual[r]; w, eps)
//
// The norm takes the sum after rounding to float32. Shapes are those of [RMSNorm]; y may be
// x, and neither may overlap residual.
func AddRMSNorm(d hip.Device, y, residual, x, w hip.Ptr, rows, n int, eps float64) error {
	const op = "norm: add rms norm"
	if residual == 0 {
		return &hip.InputError{Op: op, Field: "residual", Got: "missing", Want: "float32 [rows, n]"}
	}
	return launch(d, op, &rmsNormArgs{Y: y, X: x, W: w, Residual: residual}, rows, n, eps)
}

type rmsNormArgs struct {
	Y, X     hip.Ptr // float32 [Rows, N]
	W        hip.Ptr // float32 [N]
	Residual hip.Ptr // float32 [Rows, N], or none
	Eps      float64
	Rows, N  int32
}

// rmsNorm runs one block per row.
var rmsNorm = hip.NewKernel("rms_norm", RMSSource()+rmsNormHIP, rmsNormTwin).Fast(0, rmsNormFast).Block(RMSThreads)

var (
	//go:embed rms.h
	rmsH string
	//go:embed rms_norm.hip
	rmsNormHIP string
)

// RMSSource returns HIP source for kernels that normalize as part of something larger: the
// HIP side of [vec.RMS64]. Put it before the source of the kernel. It has rms64 for short
// rows, such as heads, and rmsOfRow for long rows, such as hidden states, in blocks of
// RMSThreads. The file rms.h describes them.
func RMSSource() string { return hip.Define("rmsThreads", RMSThreads) + rmsH }

// RMSThreads is the number of threads of a block that normalizes a row with rmsOfRow.
const RMSThreads = 512

func launch(d hip.Device, op string, a *rmsNormArgs, rows, n int, eps float64) error {
	if err := check(op, a, rows, n, eps); err != nil {
		return err
	}
	a.Eps, a.Rows, a.N = eps, int32(rows), int32(n)
	return rmsNorm.Launch(d, hip.Grid{Blocks: rows, BlockCost: 12 * n}, a)
}

// check builds nothing to report until there is something to report: a launch that is
// only replayed costs little else.
func check(op string, a *rmsNormArgs, rows, n int, eps float64) error {
	var problems []error
	refuse := func(argument string, got any, want string) {
		problems = append(problems, &hip.InputError{Op: op, Field: argument, Got: got, Want: want})
	}
	if rows < 0 || rows > math.MaxInt32 {
		refuse("rows", rows, "0 to 2^31-1")
	}
	if n < 1 || n > math.MaxInt32 {
		refuse("n", n, "1 to 2^31-1")
	}
	if !(eps >= 0) || math.IsInf(eps, 1) {
		refuse("eps", eps, "a finite number, at least 0")
	}
	if rows > 0 {
		for _, memory := range []struct {
			argument string
			ptr      hip.Ptr
			want     string
		}{{"y", a.Y, "float32 rows"}, {"x", a.X, "float32 rows"}, {"w", a.W, "float32 [n]"}} {
			if memory.ptr == 0 {
				refuse(memory.argument, "missing", memory.want)
			}
		}
	}
	return errors.Join(problems...)
}

func rmsNormTwin(b *hip.Blocks, a *rmsNormArgs) { rmsNormRows(b, a, vec.RMS64) }

func rmsNormFast(b *hip.Blocks, a *rmsNormArgs) {
	simd := b.SIMD()
	rmsNormRows(b, a, func(dst, x, w []float32, eps float64) { vec.RMS(simd, dst, x, w, eps) })
}

func rmsNormRows(b *hip.Blocks, a *rmsNormArgs, rms func(dst, x, w []float32, eps float64)) {
	n := int(a.N)
	w := hip.In[float32](b, a.W, n)
	for r := int64(b.First); r < int64(b.End); r++ {
		at := 4 * r * int64(n)
		x := hip.In[float32](b, a.X.Add(at), n)
		y := hip.Out[float32](b, a.Y.Add(at), n)
		if a.Residual != 0 {
			sum := hip.Out[float32](b, a.Residual.Add(at), n)
			vec.Add(b.SIMD(), sum, x)
			x = sum
		}
		rms(y, x, w, a.Eps)
	}
}
