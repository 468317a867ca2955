package gpu_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/need"
)

// BenchmarkRoundTrip measures what one exchange with a GPU costs the host, the least that a
// call can cost beside its kernels: a graph of launches that are waited for, alone and with
// bytes going up and coming down, by writes and reads or in shared memory. gpu-ns is what
// the GPU's clock says of the graph.
func BenchmarkRoundTrip(b *testing.B) {
	const n = 24 << 10 / 4
	d := need.GPU(b)
	x, err := d.Alloc(4 * int64(n))
	require.NoError(b, err)
	up, values, err := allocShared(d.(sharer), n)
	require.NoError(b, err)
	got := make([]float32, n)
	for _, launches := range []int{1, 25, 100} {
		record := func(p hip.Ptr) *graph {
			require.NoError(b, scaleOn(d, p, n, 1), "compiled before")
			g, err := capture(d, func(r hip.Device) error {
				for range launches {
					if err := scaleOn(r, p, n, 1); err != nil {
						return err
					}
				}
				return nil
			})
			require.NoError(b, err)
			return g
		}
		private, shared := record(x), record(up)
		for _, c := range []struct {
			name string
			g    *graph
			run  func() error
		}{
			{"graph", private, func() error { return nil }},
			{"write, graph", private, func() error { return hip.WriteOf(d, x, got) }},
			{"graph on shared memory", shared, func() error { copy(values, got); return nil }},
		} {
			b.Run(fmt.Sprintf("%s of %d", c.name, launches), func(b *testing.B) {
				for b.Loop() {
					if c.run() != nil || c.g.Launch() != nil || d.Sync() != nil {
						b.Fatal("failed")
					}
				}
				b.StopTimer()
				best := time.Hour
				for range 20 {
					took, err := d.(timer).Time(c.g.Launch)
					require.NoError(b, err)
					best = min(best, took)
				}
				b.ReportMetric(float64(best.Nanoseconds()), "gpu-ns")
			})
		}
		b.Run(fmt.Sprintf("graph of %d, read", launches), func(b *testing.B) {
			for b.Loop() {
				if private.Launch() != nil || hip.ReadOf(d, got, x) != nil {
					b.Fatal("failed")
				}
			}
		})
		require.NoError(b, private.Close())
		require.NoError(b, shared.Close())
	}
}
