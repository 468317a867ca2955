package hiptest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// TestDevice runs the conformance suite on d: what package hip promises of a [hip.Device],
// of [hip.Adopt] if d can, and of [InUse] if d counts. d must be
// idle. TestDevice frees what it allocates and does not close d.
func TestDevice(t *testing.T, d hip.Device) {
	t.Run("info", func(t *testing.T) {
		info := d.Info()
		require.NotEmpty(t, info.Name)
		require.NotEmpty(t, info.Kind)
		require.Positive(t, info.Threads)
	})
	t.Run("memory", func(t *testing.T) { testMemory(t, d) })
	t.Run("ranges", func(t *testing.T) { testRanges(t, d) })
	t.Run("launch", func(t *testing.T) { testLaunch(t, d) })
	t.Run("goroutines", func(t *testing.T) { testGoroutines(t, d) })
	if a, ok := hip.As[adopter](d); ok {
		t.Run("adopt", func(t *testing.T) { testAdopt(t, d, a) })
	}
	if s, ok := hip.As[sharer](d); ok {
		t.Run("share", func(t *testing.T) { testShare(t, d, s) })
	}
	if a, ok := hip.As[accountant](d); ok {
		t.Run("account", func(t *testing.T) { testAccount(t, d, a) })
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func alloc(t *testing.T, d hip.Device, n int64) hip.Ptr {
	t.Helper()
	p, err := d.Alloc(n)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Free(p)) })
	return p
}

func read(t *testing.T, d hip.Device, p hip.Ptr, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	require.NoError(t, d.Read(b, p))
	return b
}

func testMemory(t *testing.T, d hip.Device) {
	const n = 100_003
	p, q := alloc(t, d, n), alloc(t, d, n)
	require.Zero(t, p%64, "alignment")
	require.Equal(t, make([]byte, n), read(t, d, p, n), "fresh memory is zero")

	want := pattern(n)
	src := append([]byte(nil), want...)
	require.NoError(t, d.Write(p, src))
	clear(src)
	require.Equal(t, want, read(t, d, p, n), "Write keeps nothing of its source")
	require.Equal(t, want[17:19], read(t, d, p.Add(17), 2))

	require.NoError(t, d.Copy(q.Add(3), p.Add(5), n-5))
	require.Equal(t, want[5:], read(t, d, q.Add(3), n-5))

	none, err := d.Alloc(0)
	require.NoError(t, err)
	require.Zero(t, none)
	require.NoError(t, d.Free(0))
	require.NoError(t, d.Write(0, nil))
	require.NoError(t, d.Read(nil, 0))

	_, err = d.Alloc(1 << 60)
	require.ErrorIs(t, err, hip.ErrOutOfMemory)
	_, err = d.Alloc(-1)
	require.ErrorIs(t, err, hip.ErrOutOfMemory)
}

func testRanges(t *testing.T, d hip.Device) {
	const n = 256
	p := alloc(t, d, n)
	want := pattern(n)
	require.NoError(t, d.Write(p, want))
	bad := map[string]error{
		"write past the end":    d.Write(p.Add(n-1), []byte{1, 2}),
		"write before":          d.Write(p-1, []byte{1}),
		"write to nothing":      d.Write(0, []byte{1}),
		"read past the end":     d.Read(make([]byte, n+1), p),
		"read of nothing":       d.Read(make([]byte, 1), 0),
		"copy past the source":  d.Copy(p, p.Add(n-4), 8),
		"copy past the target":  d.Copy(p.Add(n-4), p, 8),
		"copy of negative size": d.Copy(p, p.Add(8), -8),
		"free inside":           d.Free(p.Add(64)),
	}
	for name, err := range bad {
		require.ErrorIs(t, err, hip.ErrAccess, name)
	}
	require.Equal(t, want, read(t, d, p, n), "a refused call changes nothing")
}

func testLaunch(t *testing.T, d hip.Device) {
	for _, n := range []int{1, 2, 63, 64, 65, 1000, 70_000} {
		require.NoError(t, polynomialOn(d, n, 0.5), "n %d", n)
	}
	require.NoError(t, polynomial.Launch(d, hip.Grid{}, &polynomialArgs{}), "an empty grid does nothing")
	err := polynomial.Launch(d, hip.Grid{Blocks: -1, Threads: 64}, &polynomialArgs{})
	require.ErrorContains(t, err, "kernel "+polynomial.Name+": ")
}

// polynomialOn computes on d and compares with the closed form.
func polynomialOn(d hip.Device, n int, k float32) error {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(i%1000) / 8
	}
	px, err := hip.Upload(d, x)
	if err != nil {
		return err
	}
	defer d.Free(px)
	py, err := d.Alloc(4 * int64(n))
	if err != nil {
		return err
	}
	defer d.Free(py)
	grid := hip.Grid{Blocks: (n + polynomialTile - 1) / polynomialTile, BlockCost: 1 << 15}
	if err := polynomial.Launch(d, grid, &polynomialArgs{X: px, Y: py, N: int32(n), K: k}); err != nil {
		return err
	}
	y := make([]float32, n)
	if err := hip.ReadOf(d, y, py); err != nil {
		return err
	}
	for i := range y {
		if want := x[i]*x[i] + k; y[i] != want {
			return fmt.Errorf("n %d: value %d is %v, want %v", n, i, y[i], want)
		}
	}
	return nil
}

func testGoroutines(t *testing.T, d hip.Device) {
	errs := make([]error, 8)
	var group sync.WaitGroup
	for g := range errs {
		group.Go(func() {
			for i := range 8 {
				errs[g] = errors.Join(errs[g], polynomialOn(d, 999+97*i, float32(g)))
			}
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
}

// adopter is a device that uses memory of the caller in place.
type adopter interface {
	Adopt(mem []byte, writable bool) (hip.Ptr, error)
}

func testAdopt(t *testing.T, d hip.Device, a adopter) {
	mem := pattern(1000)
	p, err := a.Adopt(mem[1:], false)
	require.NoError(t, err)
	require.Equal(t, mem[1:], read(t, d, p, 999))
	mem[500]++
	require.Equal(t, mem[1:], read(t, d, p, 999), "adopted, not copied")
	require.ErrorIs(t, d.Write(p, []byte{1}), hip.ErrAccess, "adopted for reading")
	require.NoError(t, d.Free(p))
	require.ErrorIs(t, d.Read(make([]byte, 1), p), hip.ErrAccess, "after Free")

	p, err = a.Adopt(mem, true)
	require.NoError(t, err)
	require.NoError(t, d.Write(p, []byte{9, 8, 7}))
	require.NoError(t, d.Sync())
	require.Equal(t, []byte{9, 8, 7}, mem[:3])
	require.NoError(t, d.Free(p))
}

// sharer is a device whose kernels reach memory of the host, at an address of its own.
type sharer interface {
	AllocShared(n int64) (hip.Ptr, []byte, error)
}

// allocShared returns n values that s and the host share.
func allocShared(s sharer, n int) (hip.Ptr, []float32, error) {
	p, mem, err := s.AllocShared(4 * int64(n))
	if err != nil {
		return 0, nil, err
	}
	return p, unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(mem))), n), nil
}

func testShare(t *testing.T, d hip.Device, s sharer) {
	const n = 1000
	x, values, err := allocShared(s, n)
	require.NoError(t, err)
	require.Zero(t, x%64, "alignment")
	require.Equal(t, make([]float32, n), values, "fresh memory is zero")
	y, results, err := allocShared(s, n)
	require.NoError(t, err)
	for round := range 3 {
		for i := range values {
			values[i] = float32(i%100) / 8
		}
		k := float32(round)
		grid := hip.Grid{Blocks: (n + polynomialTile - 1) / polynomialTile}
		require.NoError(t, polynomial.Launch(d, grid, &polynomialArgs{X: x, Y: y, N: n, K: k}))
		require.NoError(t, d.Sync())
		for i, v := range values {
			require.Equal(t, v*v+k, results[i], "value %d", i)
		}
	}

	want := pattern(4 * n)
	require.NoError(t, d.Write(x, want))
	require.Equal(t, want, read(t, d, x, 4*n))
	require.NoError(t, d.Write(x.Add(5), want[:12]))
	require.Equal(t, want[3:12], read(t, d, x.Add(8), 9))
	p := alloc(t, d, 4*n)
	require.NoError(t, d.Copy(p, x.Add(4), 400))
	require.NoError(t, d.Copy(y, p, 400))
	require.NoError(t, d.Sync())
	require.Equal(t, values[1:101], results[:100])
	require.ErrorIs(t, d.Write(x.Add(4), want), hip.ErrAccess)
	require.ErrorIs(t, d.Read(make([]byte, 4*n+1), x), hip.ErrAccess)
	require.ErrorIs(t, d.Copy(y, x, 4), hip.ErrAccess, "both are the host's")

	require.NoError(t, errors.Join(d.Free(x), d.Free(y)))
	require.ErrorIs(t, d.Read(make([]byte, 1), x), hip.ErrAccess, "after Free")
	for _, bytes := range []int64{-1, 0, 1 << 60} {
		_, _, err = s.AllocShared(bytes)
		require.ErrorIs(t, err, hip.ErrOutOfMemory)
	}
}

type accountant interface {
	InUse() (bytes int64, live int)
}

// InUse returns the bytes that d has allocated and the number of its live allocations and
// adoptions, so that a test can find leaks. Adopted bytes are the caller's and do not
// count. It panics if d has no method InUse; all devices of package hip have one.
func InUse(d hip.Device) (bytes int64, live int) {
	a, ok := hip.As[accountant](d)
	if !ok {
		panic(fmt.Sprintf("hiptest: %T does not count what is in use", d))
	}
	return a.InUse()
}

func testAccount(t *testing.T, d hip.Device, a accountant) {
	bytes, live := a.InUse()
	p, err := d.Alloc(1000)
	require.NoError(t, err)
	bytes1, live1 := a.InUse()
	require.Equal(t, live+1, live1)
	require.GreaterOrEqual(t, bytes1, bytes+1000)
	require.NoError(t, d.Free(p))
	bytes2, live2 := a.InUse()
	require.Equal(t, [2]int64{bytes, int64(live)}, [2]int64{bytes2, int64(live2)})
}
