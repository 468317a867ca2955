package mtp

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestWords: uploads of one call, of which a later one may need more memory than there
// is, bring each its own words, while kernels still have to read those before.
func TestWords(t *testing.T) {
	test := func(t *testing.T, d hip.Device) {
		sharer, _ := d.(hip.Sharer)
		var w words
		for call, sizes := range [][]int{{1, growWords}, {3, 2 * growWords, 5}, {7}, {2*growWords + 1, 9 * growWords}} {
			w.begin()
			var wants [][]int32
			var copies []hip.Ptr
			for part, n := range sizes {
				want := make([]int32, n)
				for i := range want {
					want[i] = int32(call<<24 + part<<20 + i)
				}
				at := w.add(want)
				require.Zero(t, at%4, "rows are copied 16 bytes at a time")
				require.NoError(t, w.upload(d, sharer))
				require.NoError(t, w.fetch(d))
				kept, err := hip.AllocOf[int32](d, n)
				require.NoError(t, err)
				require.NoError(t, launchCopyWords(d, kept, w.at(at), n))
				wants, copies = append(wants, want), append(copies, kept)
				w.next()
			}
			for i, want := range wants {
				got := make([]int32, len(want))
				require.NoError(t, hip.ReadOf(d, got, copies[i]))
				require.Equal(t, want, got, "call %d, upload %d", call, i)
				require.NoError(t, d.Free(copies[i]))
			}
		}
		require.NoError(t, w.shared.free(d))
		require.NoError(t, d.Free(w.buffer.ptr))
	}
	for _, d := range checkedDevices() {
		test(t, d)
		require.NoError(t, d.Close())
	}
	hiptest.OnGPUs(t, test)
}

// TestResults: they come back the other way, and more of them in the next call.
func TestResults(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		var r results
		for _, n := range []int{5, 1, 3000} {
			require.NoError(t, r.expect(d, d.(hip.Sharer), n))
			want := make([]int32, n)
			for i := range want {
				want[i] = int32(n*i - 7)
			}
			require.NoError(t, hip.WriteOf(d, r.at(0), want))
			require.NoError(t, r.bring(d))
			got, err := r.wait(d, d.(hip.Sharer))
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		require.NoError(t, r.shared.free(d))
		require.NoError(t, d.Free(r.buffer.ptr))
	})
}
