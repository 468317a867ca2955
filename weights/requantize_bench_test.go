package weights

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/drafthead/drafthead/hip"
)

// BenchmarkRequantize is in bytes of bfloat16 weights a second, of normal ones.
func BenchmarkRequantize(b *testing.B) {
	d := hip.NewHost()
	defer d.Close()
	a := &arena{d: d}
	const rows = 2048
	m := a.matrix(benchIn, 0, newStored(rand.New(rand.NewPCG(6, 2)), BF16, rows, benchIn))
	if a.err != nil {
		b.Fatal(a.err)
	}
	for _, f := range []Format{MXFP8, INT8} {
		b.Run(f.String(), func(b *testing.B) {
			b.SetBytes(m.Bytes())
			for b.Loop() {
				q, err := m.Requantize(context.Background(), d, f, nil)
				if err != nil {
					b.Fatal(err)
				}
				if err := q.Free(d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSelect multiplies with a quarter of the rows of a matrix, picked at
// random: in place, and copied together.
func BenchmarkSelect(b *testing.B) {
	d := hip.NewHost()
	defer d.Close()
	a := &arena{d: d}
	const rows, picked = 32768, 8192
	r := rand.New(rand.NewPCG(6, 3))
	row := newStored(r, BF16, 64, benchIn)
	s := stored{format: BF16, rows: rows, cols: benchIn}
	for range rows / 64 {
		s.data = append(s.data, row.data...)
	}
	m := a.matrix(benchIn, 0, s)
	ids := make([]int32, 0, picked)
	for _, i := range r.Perm(rows)[:picked] {
		ids = append(ids, int32(i))
	}
	slices.Sort(ids)
	copied := stored{format: BF16, rows: picked, cols: benchIn}
	for _, i := range ids {
		copied.data = append(copied.data, s.data[int(i)*2*benchIn:(int(i)+1)*2*benchIn]...)
	}
	dense := a.matrix(benchIn, 0, copied)
	if a.err != nil {
		b.Fatal(a.err)
	}
	inPlace, err := m.Select(d, ids)
	if err != nil {
		b.Fatal(err)
	}
	px, py := a.floats(randomFloats(r, benchIn)), a.floats(make([]float32, picked))
	for name, m := range map[string]*Matrix{"in place": inPlace, "copied": dense} {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(float64(len(m.segments)), "segments")
			b.SetBytes(m.Bytes())
			for b.Loop() {
				if err := m.Product(d, py, px, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
