package attention

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

func TestNewCache(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	g := released()
	for format, size := range map[CacheFormat][2]int64{CacheBF16: {2, 2}, CacheF32: {4, 4}, CacheFP8: {1, 2}, CacheFP8Index: {1, 1}} {
		c, err := NewCache(d, g, 3, 5, format)
		require.NoError(t, err)
		require.Equal(t, 5, c.Pages())
		require.Equal(t, 5, c.FreePages())
		require.Equal(t, 3*5*128*(2*2*128*size[0]+128*size[1])+32*8, c.Bytes())
		bytes, live := hiptest.InUse(d)
		require.Equal(t, c.Bytes(), bytes)
		require.Equal(t, 10, live)
		require.NoError(t, c.Close())
		require.NoError(t, c.Close(), "again")
		_, live = hiptest.InUse(d)
		require.Zero(t, live)
	}
}

func TestRefusedCaches(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	for name, refused := range map[string]struct {
		layers, pages int
		format        CacheFormat
		argument      string
	}{
		"no layers":                    {0, 1, CacheF32, "layers"},
		"no pages":                     {1, 0, CacheF32, "pages"},
		"slots beyond int32":           {1, math.MaxInt32/4 + 1, CacheF32, "pages"},
		"a format that does not exist": {1, 1, 4, "format"},
		"a negative format":            {1, 1, -1, "format"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewCache(d, tiny(), refused.layers, refused.pages, refused.format)
			var input *hip.InputError
			require.ErrorAs(t, err, &input)
			require.Equal(t, []string{"attention: cache", refused.argument}, []string{input.Op, input.Field})
		})
	}
	huge := released()
	huge.KVHeads, huge.Heads, huge.HeadDim, huge.BlockSize = maxWidth, maxWidth, maxWidth, maxWidth
	_, err := NewCache(d, huge, 1, 2000, CacheF32)
	require.ErrorIs(t, err, hip.ErrOutOfMemory, "sizes that overflow are not allocated")
}

func TestNewCacheWithoutMemory(t *testing.T) {
	reference := hip.NewReference()
	d := hiptest.NewFaulty(reference, errFault)
	t.Cleanup(func() { _ = d.Close() })
	for n := 1; n <= 7; n++ {
		d.FailAt(n, "alloc")
		_, err := NewCache(d, tiny(), 2, 4, CacheF32)
		require.ErrorIs(t, err, hip.ErrOutOfMemory)
		_, live := hiptest.InUse(reference)
		require.Zero(t, live, "what was allocated before is freed")
	}
}

func TestGeometryCheck(t *testing.T) {
	g := tiny()
	require.NoError(t, g.check())
	require.Equal(t, (6+2*2)*16+(2+1)*32, g.Columns())
	for field, change := range map[string]func(g *Geometry){
		"Heads":                func(g *Geometry) { g.Heads = 5 },
		"KVHeads":              func(g *Geometry) { g.KVHeads = 0 },
		"HeadDim":              func(g *Geometry) { g.HeadDim = -1 },
		"IndexDim":             func(g *Geometry) { g.IndexDim = 1 << 21 },
		"BlockSize":            func(g *Geometry) { g.BlockSize = 0 },
		"TopkBlocks":           func(g *Geometry) { g.TopkBlocks = 0 },
		"InitBlocks":           func(g *Geometry) { g.InitBlocks = -1 },
		"LocalBlocks":          func(g *Geometry) { g.LocalBlocks = -1 },
		"Rope.AttentionFactor": func(g *Geometry) { g.Rope.AttentionFactor = math.Inf(1) },
		"Eps":                  func(g *Geometry) { g.Eps = math.NaN() },
		"Rope.Frequencies":     func(g *Geometry) { g.Rope.Frequencies = make([]float64, 9) },
		"Rope.Frequencies[2]":  func(g *Geometry) { g.Rope.Frequencies[2] = math.NaN() },
		"Rope.Positions":       func(g *Geometry) { g.Rope.Positions = 0 },
	} {
		t.Run(field, func(t *testing.T) {
			g := tiny()
			change(&g)
			err := g.check()
			require.ErrorIs(t, err, hip.ErrInput)
			require.ErrorContains(t, err, "attention: geometry: "+field+" is")
			_, err = NewCache(hip.NewReference(), g, 1, 1, CacheF32)
			require.ErrorIs(t, err, hip.ErrInput)
		})
	}
	d := dense(tiny())
	require.NoError(t, d.check())
	require.Equal(t, (6+2*2)*16, d.Columns())
	d.TopkBlocks, d.InitBlocks, d.LocalBlocks, d.Rope.Frequencies = 1, 2, 3, make([]float64, 9)
	require.EqualError(t, d.check(), `attention: geometry: TopkBlocks is 1, want 0, since IndexDim is 0
attention: geometry: InitBlocks is 2, want 0, since IndexDim is 0
attention: geometry: LocalBlocks is 3, want 0, since IndexDim is 0
attention: geometry: Rope.Frequencies is 9 angles, want at most HeadDim/2 and IndexDim/2`)
	g.Heads, g.Eps, g.Rope.Frequencies = 0, -1, make([]float64, 20)
	for _, field := range []string{"Heads", "Eps", "Rope.Frequencies"} {
		require.ErrorContains(t, g.check(), field+" is", "all problems together")
	}
}
