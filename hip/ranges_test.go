package hip_test

import (
	"fmt"
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// requireRanges checks what a device says of 256 bytes at p.
func requireRanges(t *testing.T, d hip.Device, p hip.Ptr, writable bool) {
	t.Helper()
	_ = ability[rangeChecker](t, d)
	for _, c := range []struct {
		at, n int64
		known bool
	}{{0, 256, true}, {0, 0, true}, {1, 255, true}, {255, 1, true}, {0, 257, false}, {1, 256, false}, {-1, 2, false}, {256, 1, false}, {8, -1, false}} {
		for _, write := range []bool{false, true} {
			err := hip.CheckRange(d, p.Add(c.at), c.n, write)
			if c.known && (writable || !write) {
				require.NoError(t, err, "%+v, write %v", c, write)
				continue
			}
			require.ErrorIs(t, err, hip.ErrAccess, "%+v, write %v", c, write)
			op := map[bool]string{false: "read", true: "write"}[write]
			require.EqualError(t, err, fmt.Sprintf("hip: %s of %d bytes at %#x: access outside of device memory", op, c.n, uint64(p.Add(c.at))))
		}
	}
}

// TestCheckRange: a range is known from Alloc, Adopt or Import to Free.
func TestCheckRange(t *testing.T) {
	for name, d := range map[string]hip.Device{
		"reference": hip.NewReference(), "host": hip.NewHost(1), "checked": hip.Check(hip.NewHost(1)),
	} {
		t.Run(name, func(t *testing.T) {
			defer d.Close()
			p, err := d.Alloc(256)
			require.NoError(t, err)
			requireRanges(t, d, p, true)
			require.NoError(t, d.Free(p))
			require.ErrorIs(t, hip.CheckRange(d, p, 1, false), hip.ErrAccess)
			for _, writable := range []bool{false, true} {
				p, err := ability[hip.Adopter](t, d).Adopt(make([]byte, 256), writable)
				require.NoError(t, err)
				requireRanges(t, d, p, writable)
				require.NoError(t, d.Free(p))
			}
			require.NoError(t, d.Close())
			require.ErrorIs(t, hip.CheckRange(d, p, 1, false), hip.ErrClosed)
		})
	}
	t.Run("GPU", func(t *testing.T) {
		hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
			p, err := d.Alloc(256)
			require.NoError(t, err)
			requireRanges(t, d, p, true)
			require.NoError(t, d.Free(p))
			mem := make([]byte, 256) // plays an engine's: nothing runs on it
			p = hip.Ptr(uintptr(unsafe.Pointer(&mem[0])))
			require.ErrorIs(t, hip.CheckRange(d, p, 1, false), hip.ErrAccess)
			require.NoError(t, ability[hip.Importer](t, d).Import(p, 256))
			requireRanges(t, d, p, true)
			require.NoError(t, d.Free(p))
			runtime.KeepAlive(mem)
		})
	})
}

// ability is what the test is about.
func ability[T any](t testing.TB, d hip.Device) T {
	t.Helper()
	a, ok := hip.As[T](d)
	require.True(t, ok, "%T", a)
	return a
}
