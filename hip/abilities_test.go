package hip_test

import (
	"context"
	"errors"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/hip/internal/emulator"
)

// wrapper offers what it wraps.
type wrapper struct{ hip.Device }

func (w wrapper) Unwrap() hip.Device { return w.Device }

// counter is an ability of a wrapper's own.
type counter struct{ wrapper }

func (counter) InUse() (bytes int64, live int) { return 42, 7 }

func TestAs(t *testing.T) {
	d := hip.NewReference()
	defer d.Close()
	for name, wrapped := range map[string]hip.Device{"itself": d, "once": wrapper{d}, "twice": wrapper{wrapper{d}}, "beside an ability": counter{wrapper{d}}} {
		a, ok := hip.As[hip.Adopter](wrapped)
		require.True(t, ok, name)
		require.Equal(t, d, a, name)
		_, ok = hip.As[hip.Importer](wrapped)
		require.False(t, ok, name)
	}
	own, ok := hip.As[accountant](counter{wrapper{d}})
	require.True(t, ok)
	bytes, live := own.InUse()
	require.Equal(t, [2]int64{42, 7}, [2]int64{bytes, int64(live)}, "the wrapper's own comes first")
	for name, none := range map[string]hip.Device{"a wrapper that offers nothing": bare{d}, "none": nil, "around none": wrapper{}} {
		_, ok := hip.As[hip.Adopter](none)
		require.False(t, ok, name)
	}
}

// What devices have beside the interfaces of package hip.
type (
	accountant interface {
		InUse() (bytes int64, live int)
	}
	rangeChecker interface {
		CheckRange(p hip.Ptr, n int64, write bool) error
	}
	compiler interface {
		Compile(ctx context.Context, kernels ...*hip.Kernel) error
	}
	capturer interface {
		Capture(record func(d hip.Device) error) (launch, release func() error, err error)
	}
	timer interface {
		Time(work func() error) (time.Duration, error)
	}
)

// allocShared returns n values that s and the host share.
func allocShared(s hip.Sharer, n int) (hip.Ptr, []float32, error) {
	p, mem, err := s.AllocShared(4 * int64(n))
	return p, unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(mem))), n), err
}

// offered returns which abilities As finds.
func offered(d hip.Device) map[string]bool {
	found := map[string]bool{}
	_, found["Accountant"] = hip.As[accountant](d)
	_, found["RangeChecker"] = hip.As[rangeChecker](d)
	_, found["Adopter"] = hip.As[hip.Adopter](d)
	_, found["Importer"] = hip.As[hip.Importer](d)
	_, found["Sharer"] = hip.As[hip.Sharer](d)
	_, found["Filler"] = hip.As[hip.Filler](d)
	_, found["Timer"] = hip.As[timer](d)
	_, found["Compiler"] = hip.As[compiler](d)
	_, found["Capturer"] = hip.As[capturer](d)
	return found
}

// TestCheckOffersWhatTheDeviceHas, but for graphs, whose launches nobody would compare.
func TestCheckOffersWhatTheDeviceHas(t *testing.T) {
	host := hip.NewHost()
	defer host.Close()
	require.Equal(t, offered(host), offered(hip.Check(host)))
	none := offered(hip.Check(bare{host}))
	require.True(t, none["Accountant"] && none["RangeChecker"], "of the mirror")
	require.False(t, none["Adopter"] || none["Importer"])
	_, err := hip.Adopt(bare{host}, make([]byte, 8), false)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.EqualError(t, hip.Import(host, 64, 8), "hip: import: unsupported operation")
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		want := offered(d)
		require.True(t, want["Capturer"])
		want["Capturer"] = false
		require.Equal(t, want, offered(hip.Check(d)))
		require.Equal(t, want, offered(wrapper{hip.Check(wrapper{d})}))
	})
}

// TestCheckMirrorsForeignMemory: what an engine imports and writes, what the host shares,
// what a file fills and what the host writes to memory that it lent, the reference sees
// before the next launch; and what is wrong there is found.
func TestCheckMirrorsForeignMemory(t *testing.T) {
	const n = 300
	for _, platform := range []string{"hip", "cuda"} {
		t.Run(platform, func(t *testing.T) {
			m := emulator.New(t, emulator.Settings{Platform: platform, Wave: 32})
			engine := must(hip.Open(0, m.Options()))
			opts := m.Options()
			opts.Stream = ability[hip.Importer](t, engine).Stream()
			d := hip.Check(must(hip.Open(0, opts)))

			y := must(hip.Upload(engine, values(n)))
			require.ErrorIs(t, scaleOn(d, y, n, 2), hip.ErrAccess, "not known yet")
			importer := ability[hip.Importer](t, d)
			require.NoError(t, importer.Import(y, 4*n))
			require.ErrorIs(t, importer.Import(y.Add(8), 4*n), hip.ErrAccess, "overlaps")
			require.NoError(t, hip.CheckRange(d, y, 4*n, true))
			require.NoError(t, scaleOn(d, y, n, 2), "what was there at Import")
			for range 2 {
				require.NoError(t, hip.WriteOf(engine, y, values(n)))
				require.NoError(t, scaleOn(engine, y, n, 3), "an engine's kernel writes")
				require.NoError(t, scaleOn(d, y, n, 2))
				require.NoError(t, expect(engine, y, n, 6))
			}

			z, host, err := allocShared(ability[hip.Sharer](t, d), n)
			require.NoError(t, err)
			for k := range 3 {
				copy(host, scaled(n, float32(k)))
				require.NoError(t, scaleOn(d, z, n, 2))
				require.Equal(t, scaled(n, float32(2*k)), host)
			}
			own := must(d.Alloc(4 * int64(n)))
			copy(host, values(n))
			require.NoError(t, d.Copy(own, z, 4*n), "a copy sees it too")
			require.NoError(t, scaleOn(d, own, n, 2))
			require.NoError(t, expect(d, own, n, 2))

			filler := ability[hip.Filler](t, d)
			require.NoError(t, filler.Fill(own, 4*n, func(part []byte, off int64) error {
				return engine.Read(part, y.Add(off))
			}), "another device's memory, as if it were a file")
			require.NoError(t, scaleOn(d, own, n, 2))
			require.NoError(t, expect(d, own, n, 12))
			stop := errors.New("stop")
			require.ErrorIs(t, filler.Fill(own, 4*n, func([]byte, int64) error { return stop }), stop)

			require.NoError(t, errors.Join(d.Free(y), d.Free(z), d.Free(own)))
			require.ErrorIs(t, scaleOn(d, y, n, 2), hip.ErrAccess, "after Free")
			require.NoError(t, scaleOn(engine, y, n, 1), "the memory is the engine's")
			require.NoError(t, d.Close())
			require.NoError(t, engine.Close())
		})
	}
}

// TestCheckSeesLentMemory: memory that was adopted for writing is the caller's to write
// between launches.
func TestCheckSeesLentMemory(t *testing.T) {
	d := hip.Check(hip.NewHost())
	mem := make([]byte, 8)
	adopter := ability[hip.Adopter](t, d)
	p, err := adopter.Adopt(mem, true)
	require.NoError(t, err)
	again, err := adopter.Adopt(mem, true)
	require.NoError(t, err)
	require.Equal(t, p, again)
	for i := range 3 {
		mem[0] = byte(10 * i)
		require.NoError(t, count.Launch(d, hip.Grid{Blocks: 2}, &countArgs{Y: p, N: 2}))
		require.EqualValues(t, 10*i+1, mem[0])
		if i == 1 {
			require.NoError(t, d.Free(p), "once of twice")
		}
	}
	require.NoError(t, d.Free(p))
	require.ErrorIs(t, d.Free(p), hip.ErrAccess)
	require.NoError(t, d.Close())
}

// TestCheckComparesForeignMemory: a wrong result there is found too.
func TestCheckComparesForeignMemory(t *testing.T) {
	d := hip.Check(hip.NewHost())
	mem := make([]byte, 12)
	p, err := ability[hip.Adopter](t, d).Adopt(mem, true)
	require.NoError(t, err)
	y, err := d.Alloc(12)
	require.NoError(t, err)
	require.NoError(t, perturb.Launch(d, hip.Grid{Blocks: 3}, &perturbArgs{X: y, Y: p, N: 3}))
	require.ErrorIs(t, perturb.Launch(d, hip.Grid{Blocks: 3}, &perturbArgs{X: y, Y: p, N: 3, Off: 1}), hip.ErrMismatch)
	require.NoError(t, d.Close())
}

// TestReplayerOnACheckedDevice launches everything, so that everything is compared.
func TestReplayerOnACheckedDevice(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		x := must(hip.Upload(checked, values(64)))
		r := hip.NewReplayer(checked, 4)
		require.False(t, r.Records())
		for range 3 {
			require.NoError(t, r.Run(func(on hip.Device) error { return scaleOn(on, x, 64, 2) }))
		}
		require.NoError(t, expect(checked, x, 64, 8))
		require.Zero(t, r.Graphs())
		require.NoError(t, errors.Join(r.Close(), checked.Free(x)))
	})
}
