package attention

import (
	"bytes"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestFP8Codes: values of every kind get the same code on every device, by scales that
// divide exactly and by others.
func TestFP8Codes(t *testing.T) { forEachDevice(t, testFP8Codes) }

func TestFP8CodesOnGPUs(t *testing.T) { hiptest.OnGPUs(t, testFP8Codes) }

func testFP8Codes(t *testing.T, d hip.Device) {
	inf := float32(math.Inf(1))
	values := []float32{0, float32(math.Copysign(0, -1)), inf, -inf, float32(math.NaN()), math.MaxFloat32, 463, 465, 1e-30, 0x1p-149, 0x1p-10, 0x1.8p-10}
	for code := hip.E4M3(0); code < 0x7e; code++ {
		low, middle := code.Float32(), (code.Float32()+(code+1).Float32())/2
		values = append(values, low, -low, middle, -middle, math.Nextafter32(middle, 0), math.Nextafter32(middle, inf))
	}
	g := dense(tiny())
	g.Heads, g.KVHeads, g.HeadDim, g.Rope.Frequencies = 1, 1, len(values), nil
	for _, scale := range []float32{1, 0x1p-7, 0.3, 3e-39, 2e38} {
		c := newCache(t, d, g, 1, 1, CacheFP8)
		require.NoError(t, c.SetScales(0, 1, scale))
		row := randomValues(1, 1, 3*len(values))
		for i, v := range values {
			row[2*len(values)+i] = v * scale
		}
		a, b, l := &arena{d: d}, NewBatch(c), constantLearned(&g, 0, 0)
		params, err := l.upload(a, &g)
		require.NoError(t, err)
		qkv := mustPut(t, a, row)
		require.NoError(t, b.Upload(Span{table: []int32{0}, rows: 1}))
		require.NoError(t, Insert(b, 0, qkv, params))
		for i, code := range get[hip.E4M3](t, d, c.layers[0].values, len(values)) {
			v := row[2*len(values)+i]
			require.Equal(t, hip.ToE4M3(v/scale), code, "%v by %v", v, scale)
		}
		require.NoError(t, b.Close())
		require.NoError(t, a.close())
		require.NoError(t, c.Close())
	}
}

// TestSetScales: scales that are not positive numbers are refused, and so are those of a
// cache that has none.
func TestSetScales(t *testing.T) {
	d := hip.NewHost(2)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	c := newCache(t, d, tiny(), 2, 1, CacheFP8)
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, bad := range []float32{0, -1, nan, inf, -inf} {
		for field, err := range map[string]error{"keys": c.SetScales(1, bad, 2), "values": c.SetScales(1, 2, bad)} {
			var input *hip.InputError
			require.ErrorAs(t, err, &input)
			require.Equal(t, []string{"attention: set scales", field}, []string{input.Op, input.Field})
		}
	}
	require.Equal(t, [2]float32{1, 1}, [2]float32{c.layers[1].keyScale, c.layers[1].valueScale}, "nothing was set")
	require.ErrorContains(t, c.SetScales(2, 1, 1), "layer is 2, want 0 to 1")
	require.EqualError(t, newCache(t, d, tiny(), 1, 1, CacheBF16).SetScales(0, 1, 1), "attention: set scales: format is BF16, want CacheFP8 or CacheFP8Index")
	require.NoError(t, c.Close())
	require.ErrorIs(t, c.SetScales(0, 1, 1), ErrClosed)
}

// TestFP8SequenceBytes: a sequence goes from cache to cache with its codes, and only to one
// with the same scales.
func TestFP8SequenceBytes(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	open := func(keys, values float32) *Cache {
		c := newCache(t, d, tiny(), 2, 4, CacheFP8Index)
		require.NoError(t, c.SetScales(1, keys, values))
		return c
	}
	c, same, other := open(2, 3), open(2, 3), open(2, 4)
	s := c.NewSequence()
	tx, err := c.Begin(Claim{Sequence: s, To: 6})
	require.NoError(t, err)
	_, err = tx.Span(0, 1, 0, 6)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	_, sizes, err := c.Buffers(1)
	require.NoError(t, err)
	for i, p := range c.layers[1].buffers() {
		codes := make([]hip.E4M3, int(sizes[i])*c.Pages())
		for j := range codes {
			codes[j] = hip.E4M3(7*j + i)
		}
		require.NoError(t, hip.WriteOf(d, p, codes))
	}
	raw := written(t, s)
	read, err := same.ReadSequence(bytes.NewReader(raw))
	require.NoError(t, err)
	require.Equal(t, raw, written(t, read))
	_, err = other.ReadSequence(bytes.NewReader(raw))
	require.ErrorIs(t, err, hip.ErrInput)
	require.ErrorContains(t, err, "attention: read sequence: CRC-32C of the scales is ")

	// A fork that writes gets a copy of the page.
	fork, err := s.Fork()
	require.NoError(t, err)
	tx, err = c.Begin(Claim{Sequence: fork, From: 6, To: 7})
	require.NoError(t, err)
	require.NoError(t, tx.Rollback())
	require.NotEqual(t, s.BlockTable()[1], fork.BlockTable()[1])
	require.Equal(t, raw, written(t, fork))
}
