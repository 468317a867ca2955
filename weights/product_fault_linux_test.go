package weights

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestProductsOfLostMemory: a product with weights in a mapped file that is cut short under
// it is an error of the launch, in every worker and with all vector instructions, and the
// device goes on.
func TestProductsOfLostMemory(t *testing.T) {
	const rows, cols, size = 256, 1024, 8 << 20
	name := filepath.Join(t.TempDir(), "weights")
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	defer file.Close()
	mem, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ, unix.MAP_PRIVATE)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(mem)) }()

	devices := hiptest.Hosts(4)
	devices["reference"] = hip.NewReference()
	for host, d := range devices {
		t.Run(host, func(t *testing.T) {
			defer d.Close()
			p, err := hip.Adopt(d, mem, false)
			require.NoError(t, err)
			for f := Format(1); f < endFormat; f++ {
				require.NoError(t, file.Truncate(size))
				scale := hip.Ptr(0)
				if f.quantized() {
					scale = p.Add(size / 2)
				}
				m, err := NewMatrix(d, cols, []Segment{DenseSegment(f, rows, cols, p, scale)})
				require.NoError(t, err)
				for _, n := range []int{1, 5, 70} {
					x, err := hip.Upload(d, make([]float32, n*cols))
					require.NoError(t, err)
					y, err := hip.Upload(d, make([]float32, n*rows))
					require.NoError(t, err)
					says := fmt.Sprintf("%v, %d rows", f, n)
					require.NoError(t, file.Truncate(size))
					require.NoError(t, m.Product(d, y, x, n), says)
					require.NoError(t, file.Truncate(0))
					err = m.Product(d, y, x, n)
					require.ErrorIs(t, err, hip.ErrAccess, says)
					require.ErrorContains(t, err, "is gone, as that of a mapped file that is cut short", says)
					require.NoError(t, d.Free(x))
					require.NoError(t, d.Free(y))
				}
				require.ErrorIs(t, d.Read(make([]byte, 10), p), hip.ErrAccess)
				require.NoError(t, file.Truncate(size))
				require.NoError(t, d.Read(make([]byte, 10), p))
				require.NoError(t, m.Free(d))
			}
			require.NoError(t, d.Free(p))
		})
	}
}
