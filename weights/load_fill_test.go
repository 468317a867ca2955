package weights

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// filling is a device that asks for the bytes of an upload, a few at a time.
type filling struct{ faulty }

func (f filling) Fill(dst hip.Ptr, n int64, read func(part []byte, off int64) error) error {
	if err := f.Next("fill"); err != nil {
		return err
	}
	part := make([]byte, 1000)
	for off := int64(0); off < n; off += int64(len(part)) {
		part = part[:min(int64(len(part)), n-off)]
		if err := read(part, off); err != nil {
			return err
		}
		if err := f.faulty.Write(dst.Add(off), part); err != nil {
			return err
		}
	}
	return nil
}

func TestLoadFillsADevice(t *testing.T) {
	plan, s := headPlan(t, smallHead, mixed)
	params := headOf(t, smallHead, Parallel{})
	host := hip.NewReference()
	defer host.Close()
	for good := 0; ; good++ {
		d := filling{hiptest.NewFaulty(host, errFault)}
		d.FailAt(good+1, "fill")
		done := int64(0)
		l, err := plan.Load(t.Context(), d, false, false, func(n, _ int64) { done = n })
		if err == nil {
			require.Greater(t, good, 20)
			require.Equal(t, plan.Report().Bytes, done)
			requireShare(t, host, l, params, s)
			require.NoError(t, l.Close())
			return
		}
		require.ErrorIs(t, err, errFault)
		require.ErrorContains(t, err, "model.")
		require.Equal(t, [2]int64{}, inUse(host), "after %d good calls", good)
	}
}

func TestLoadOnGPUs(t *testing.T) {
	plan, s := headPlan(t, smallHead, mixed)
	params := headOf(t, smallHead, Parallel{})
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		l, err := plan.Load(t.Context(), d, false, false, nil)
		require.NoError(t, err)
		requireShare(t, d, l, params, s)
		require.NoError(t, l.Close())
		require.Equal(t, [2]int64{}, inUse(d))
	})
}

// TestReadAcross: what several goroutines read is what one does.
func TestReadAcross(t *testing.T) {
	const rows, cols = 3100, 1111
	data := make([]byte, rows*cols)
	r := rand.NewChaCha8([32]byte{5})
	_, err := r.Read(data)
	require.NoError(t, err)
	c := openHead(t, inMap(map[string][]byte{"a.safetensors": buildFile(bytePart("t", string(data)))}))
	tensor, ok := c.Tensor("t")
	require.True(t, ok)
	for _, a := range []area{
		{tensor: tensor, stride: cols, rows: rows, width: cols},
		{tensor: tensor, start: 100, stride: cols, rows: rows, width: 1000},
	} {
		want, got := make([]byte, a.bytes()), make([]byte, a.bytes())
		require.NoError(t, a.readAt(want, 0))
		require.NoError(t, a.readAcross(got, 0))
		require.Equal(t, want, got)
		require.NoError(t, a.readAcross(got[:3_000_000], 7))
		require.Equal(t, want[7:3_000_007], got[:3_000_000])
	}
	beyond := area{tensor: tensor, stride: cols, rows: rows + 1, width: cols}
	require.Error(t, beyond.readAcross(make([]byte, beyond.bytes()), 0))
}
