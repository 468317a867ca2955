package staging

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp/internal/kernels"
)

// onDevices runs test on a device of each kind, and checks that nothing is left there.
func onDevices(t *testing.T, test func(t *testing.T, d hip.Device)) {
	for _, d := range []hip.Device{hip.NewReference(), hip.Check(hip.NewHost())} {
		test(t, d)
		require.NoError(t, d.Close())
	}
	hiptest.OnGPUs(t, test)
}

// TestUp: uploads of one call, of which a later one may need more memory than there is,
// bring each its own words, while kernels still have to read those before.
func TestUp(t *testing.T) {
	onDevices(t, func(t *testing.T, d hip.Device) {
		u := NewUp(d)
		for call, sizes := range [][]int{{1, roomStep}, {3, 2 * roomStep, 5}, {7}, {2*roomStep + 1, 9 * roomStep}} {
			u.Begin()
			var wants [][]int32
			var copies []hip.Ptr
			for part, n := range sizes {
				want := make([]int32, n)
				for i := range want {
					want[i] = int32(call<<24 + part<<20 + i)
				}
				at := u.Add(want)
				require.Zero(t, at%4, "rows are copied 16 bytes at a time")
				require.NoError(t, u.Upload())
				require.NoError(t, u.Fetch(d))
				kept, err := d.Alloc(4 * int64(n))
				require.NoError(t, err)
				require.NoError(t, kernels.CopyWords(d, kept, u.At(at), n))
				wants, copies = append(wants, want), append(copies, kept)
				u.Next()
			}
			for i, want := range wants {
				got := make([]int32, len(want))
				require.NoError(t, hip.ReadOf(d, got, copies[i]))
				require.Equal(t, want, got, "call %d, upload %d", call, i)
				require.NoError(t, d.Free(copies[i]))
			}
		}
		require.NoError(t, u.Free())
	})
}

// TestUpFloats: bfloat16 becomes the float32 that has it as its upper half.
func TestUpFloats(t *testing.T) {
	d := hip.NewReference()
	defer d.Close()
	u := NewUp(d)
	u.Begin()
	require.Equal(t, 0, u.AddFloats([]float32{1, -2.5}))
	require.Equal(t, 2, u.AddBFloat16([]uint16{0x3f80, 0xc020}))
	require.NoError(t, u.Upload())
	got := make([]float32, 4)
	require.NoError(t, hip.ReadOf(d, got, u.At(0)))
	require.Equal(t, []float32{1, -2.5, 1, -2.5}, got)
	require.NoError(t, u.Free())
}

// TestDown: results come back the other way, and more of them in the next call, or only
// the first.
func TestDown(t *testing.T) {
	onDevices(t, func(t *testing.T, d hip.Device) {
		r := NewDown(d)
		for _, n := range []int{5, 1, 3000} {
			require.NoError(t, r.Expect(n))
			want := make([]int32, n)
			for i := range want {
				want[i] = int32(n*i - 7)
			}
			require.NoError(t, hip.WriteOf(d, r.At(0), want))
			for _, first := range []int{1, n} {
				require.NoError(t, r.Bring(d, first))
				got, err := r.Wait(first)
				require.NoError(t, err)
				require.Equal(t, want[:first], got)
			}
		}
		require.NoError(t, r.Free())
	})
}
