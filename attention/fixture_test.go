package attention

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// forEachDevice runs f on the reference, a host of every level of vector
// instructions, and each of these checked launch by launch, and then looks for
// memory that was not freed.
func forEachDevice(t *testing.T, f func(t *testing.T, d hip.Device)) {
	devices := map[string]hip.Device{"reference": hip.NewReference()}
	for name, d := range hiptest.Hosts(2) {
		devices[name] = d
	}
	for name, d := range hiptest.Hosts(2) {
		devices["checked "+name] = hip.Check(d)
	}
	for name, d := range devices {
		t.Run(name, func(t *testing.T) {
			defer func() { require.NoError(t, d.Close()) }()
			f(t, d)
			bytes, live := hiptest.InUse(d)
			require.Zero(t, live, "%d bytes were not freed", bytes)
		})
	}
}

// tiny has index heads wider than heads, forced blocks at both ends, and pages
// of four positions.
func tiny() Geometry {
	return Geometry{
		Heads: 6, KVHeads: 2, HeadDim: 16, IndexDim: 32,
		BlockSize: 4, TopkBlocks: 4, InitBlocks: 1, LocalBlocks: 2, Eps: 1e-6,
		Rope: Rope{Frequencies: frequencies(10000, 8), AttentionFactor: 1, Positions: 1 << 20},
	}
}

// frequencies are those of plain RoPE.
func frequencies(theta float64, dim int) []float64 {
	all := make([]float64, dim/2)
	for j := range all {
		all[j] = math.Pow(theta, -2*float64(j)/float64(dim))
	}
	return all
}

// released is the geometry of the released model with fewer query heads.
func released() Geometry {
	return Geometry{
		Heads: 10, KVHeads: 2, HeadDim: 128, IndexDim: 128,
		BlockSize: 128, TopkBlocks: 16, LocalBlocks: 1, Eps: 1e-6,
		Rope: Rope{Frequencies: frequencies(5e6, 64), AttentionFactor: 1, Positions: 1 << 20},
	}
}

// dense is a geometry without indexer.
func dense(g Geometry) Geometry {
	g.IndexDim, g.TopkBlocks, g.InitBlocks, g.LocalBlocks = 0, 0, 0, 0
	return g
}

func randomValues(seed, stream uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, stream))
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(r.NormFloat64())
	}
	return values
}

func newCache(t *testing.T, d hip.Device, g Geometry, layers, pages int, format CacheFormat) *Cache {
	t.Helper()
	c, err := NewCache(d, g, layers, pages, format)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// arena frees what tests upload.
type arena struct {
	d    hip.Device
	ptrs []hip.Ptr
}

func (a *arena) close() error {
	var errs []error
	for _, p := range a.ptrs {
		errs = append(errs, a.d.Free(p))
	}
	a.ptrs = nil
	return errors.Join(errs...)
}

func put[T any](a *arena, values []T) (hip.Ptr, error) {
	p, err := hip.Upload(a.d, values)
	a.ptrs = append(a.ptrs, p)
	return p, err
}

func mustPut[T any](t *testing.T, a *arena, values []T) hip.Ptr {
	t.Helper()
	p, err := put(a, values)
	require.NoError(t, err)
	return p
}

func get[T any](t *testing.T, d hip.Device, p hip.Ptr, n int) []T {
	t.Helper()
	values := make([]T, n)
	require.NoError(t, hip.ReadOf(d, values, p))
	return values
}

// learned is the host side of Params.
type learned struct {
	qNorm, kNorm, indexQNorm, indexKNorm []float32
}

func randomLearned(g *Geometry) learned {
	return learned{
		randomValues(7, 1, g.HeadDim), randomValues(7, 2, g.HeadDim),
		randomValues(7, 3, g.IndexDim), randomValues(7, 4, g.IndexDim),
	}
}

func constantLearned(g *Geometry, q, k float32) learned {
	fill := func(n int, v float32) []float32 {
		values := make([]float32, n)
		for i := range values {
			values[i] = v
		}
		return values
	}
	return learned{fill(g.HeadDim, q), fill(g.HeadDim, k), fill(g.IndexDim, q), fill(g.IndexDim, k)}
}

func (l *learned) upload(a *arena, g *Geometry) (p Params, err error) {
	var errs [4]error
	p.QNorm, errs[0] = put(a, l.qNorm)
	p.KNorm, errs[1] = put(a, l.kNorm)
	if !g.dense() {
		p.IndexQNorm, errs[2] = put(a, l.indexQNorm)
		p.IndexKNorm, errs[3] = put(a, l.indexKNorm)
	}
	return p, errors.Join(errs[:]...)
}
