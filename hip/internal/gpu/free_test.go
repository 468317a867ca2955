package gpu_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/hip/internal/emulator"
)

// TestFreeThatFailsOnce: whichever call of the driver fails, memory and graphs that were not
// freed are still the device's, and are freed when they are asked for again.
func TestFreeThatFailsOnce(t *testing.T) {
	for _, e := range platforms {
		t.Run(e.Platform, func(t *testing.T) {
			m := emulator.New(t, e)
			d, err := hip.Open(0, m.Options())
			require.NoError(t, err)
			type owned struct {
				free  func() error
				bytes int
			}
			for name, take := range map[string]func() owned{
				"memory": func() owned {
					p, err := d.Alloc(1000)
					require.NoError(t, err)
					return owned{func() error { return d.Free(p) }, 1000}
				},
				"shared memory": func() owned {
					p, _, err := allocShared(d.(sharer), 250)
					require.NoError(t, err)
					return owned{func() error { return d.Free(p) }, 1000}
				},
				"graph": func() owned {
					x, err := d.Alloc(64)
					require.NoError(t, err)
					g, err := capture(d, func(r hip.Device) error { return r.Copy(x, x.Add(32), 16) })
					require.NoError(t, err)
					require.NoError(t, g.Launch())
					require.NoError(t, d.Free(x))
					return owned{g.Close, 0}
				},
			} {
				failed := 0
				for n := 1; ; n++ {
					o := take()
					m.FailAt(n)
					err := o.free()
					m.FailAt(0)
					bytes, _ := hiptest.InUse(d)
					if err == nil {
						require.Zero(t, bytes)
						require.Error(t, o.free(), "%s is gone", name)
						break
					}
					failed++
					require.EqualValues(t, o.bytes, bytes, "%s, call %d: %v", name, n, err)
					require.NoError(t, o.free(), "%s, call %d", name, n)
					bytes, _ = hiptest.InUse(d)
					require.Zero(t, bytes)
				}
				require.Positive(t, failed, name)
			}
			require.NoError(t, d.Close())
			require.Zero(t, m.Counts())
		})
	}
}
