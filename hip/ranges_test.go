package hip_test

import (
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
	ranges := d.(hip.RangeChecker)
	for _, c := range []struct {
		at, n int64
		known bool
	}{{0, 256, true}, {0, 0, true}, {1, 255, true}, {255, 1, true}, {0, 257, false}, {1, 256, false}, {-1, 2, false}, {256, 1, false}, {8, -1, false}} {
		for _, write := range []bool{false, true} {
			err := ranges.CheckRange(p.Add(c.at), c.n, write)
			if c.known && (writable || !write) {
				require.NoError(t, err, "%+v, write %v", c, write)
				continue
			}
			var access *hip.AccessError
			require.ErrorAs(t, err, &access, "%+v, write %v", c, write)
			require.Equal(t, hip.AccessError{Op: map[bool]string{false: "read", true: "write"}[write], Ptr: p.Add(c.at), Len: c.n}, *access)
		}
	}
}

// TestCheckRange: a range is known from Alloc, Adopt or Import to Free.
func TestCheckRange(t *testing.T) {
	for name, d := range map[string]hip.Device{
		"reference": hip.NewReference(), "host": hip.NewHostThreads(1), "checked": hip.Check(hip.NewHostThreads(1)),
	} {
		t.Run(name, func(t *testing.T) {
			defer d.Close()
			p, err := d.Alloc(256)
			require.NoError(t, err)
			requireRanges(t, d, p, true)
			require.NoError(t, d.Free(p))
			require.ErrorIs(t, d.(hip.RangeChecker).CheckRange(p, 1, false), hip.ErrAccess)
			for _, writable := range []bool{false, true} {
				p, err := d.(hip.Adopter).Adopt(make([]byte, 256), writable)
				require.NoError(t, err)
				requireRanges(t, d, p, writable)
				require.NoError(t, d.Free(p))
			}
			require.NoError(t, d.Close())
			require.ErrorIs(t, d.(hip.RangeChecker).CheckRange(p, 1, false), hip.ErrClosed)
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
			require.ErrorIs(t, d.(hip.RangeChecker).CheckRange(p, 1, false), hip.ErrAccess)
			require.NoError(t, d.(hip.Importer).Import(p, 256))
			requireRanges(t, d, p, true)
			require.NoError(t, d.Free(p))
			runtime.KeepAlive(mem)
		})
	})
}
