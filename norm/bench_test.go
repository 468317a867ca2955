package norm_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/norm"
)

// BenchmarkAddRMSNorm is at the released model's width; bytes read and written.
func BenchmarkAddRMSNorm(b *testing.B) {
	const n = 6144
	for _, rows := range []int{1, 4, 16, 512} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			d := hip.NewHost()
			defer d.Close()
			var buffers [4]hip.Ptr
			for i := range buffers {
				p, err := hip.Upload(d, constant(rows*n, 1e-3))
				require.NoError(b, err)
				buffers[i] = p
			}
			b.SetBytes(int64(rows) * n * 4 * 4)
			for b.Loop() {
				if err := norm.AddRMSNorm(d, buffers[0], buffers[1], buffers[2], buffers[3], rows, n, 1e-6); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
