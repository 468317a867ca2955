package gpu_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/emulator"
	"github.com/drafthead/drafthead/hip/internal/gpu"
)

// wander writes beside y.
func wander(d hip.Device, y hip.Ptr) error {
	return wild.Launch(d, hip.Grid{Blocks: 1, Threads: 1}, &wildArgs{Y: y, At: 64})
}

// TestAnyCallTellsOfAFault: the call to which the driver reports a fault returns it, and so
// does every later call.
func TestAnyCallTellsOfAFault(t *testing.T) {
	type session struct {
		d      hip.Device
		y, z   hip.Ptr // z: shared
		copies *graph
	}
	calls := map[string]func(s *session) error{
		"sync":        func(s *session) error { return s.d.Sync() },
		"read":        func(s *session) error { return s.d.Read(make([]byte, 8), s.y) },
		"read shared": func(s *session) error { return s.d.Read(make([]byte, 8), s.z) },
		"free shared": func(s *session) error { return s.d.Free(s.z) },
		"close graph": func(s *session) error { return s.copies.Close() },
		"time": func(s *session) error {
			_, err := s.d.(timer).Time(func() error { return nil })
			return err
		},
		"close": func(s *session) error { return s.d.Close() },
	}
	eagerly := map[string]func(s *session) error{ // told before anybody waits
		"launch":       func(s *session) error { return scaleOn(s.d, s.y, 64, 2) },
		"launch graph": func(s *session) error { return s.copies.Launch() },
		"copy":         func(s *session) error { return s.d.Copy(s.y, s.y.Add(128), 64) },
		"write":        func(s *session) error { return s.d.Write(s.y, make([]byte, 8)) },
		"alloc":        func(s *session) error { _, err := s.d.Alloc(8); return err },
	}
	for _, e := range platforms {
		run := func(e emulator.Settings, name string, call func(*session) error) {
			t.Run(e.Platform+"/"+name, func(t *testing.T) {
				m := emulator.New(t, e)
				s := &session{d: must(hip.Open(0, m.Options()))}
				s.y = must(hip.Upload(s.d, values(64)))
				var err error
				s.z, _, err = s.d.(sharer).AllocShared(64)
				require.NoError(t, err)
				s.copies = must(capture(s.d, func(r hip.Device) error { return r.Copy(s.y, s.y.Add(128), 64) }))
				require.NoError(t, wander(s.d, s.y))
				require.NoError(t, ignoreCopies(s.copies, e), "which is no kernel to blame")
				err = call(s)
				requireBlamed(t, err, wild.Name)
				launch := err
				if name == "close" {
					return
				}
				require.Equal(t, launch, s.d.Sync(), "the fault stays")
				require.Equal(t, launch, scaleOn(s.d, s.y, 64, 2))
				require.Equal(t, launch, s.d.Write(s.y, []byte{1}))
				require.NoError(t, s.d.Free(s.y))
				require.NoError(t, s.d.Close())
			})
		}
		for name, call := range calls {
			run(e, name, call)
		}
		if e.Platform == "cuda" { // where a fault is told by whatever call is next
			e.Eager = true
			for name, call := range eagerly {
				run(e, name, call)
			}
		}
	}
}

// ignoreCopies launches a graph without kernels, unless that would report the fault.
func ignoreCopies(g *graph, e emulator.Settings) error {
	if e.Eager {
		return nil
	}
	return g.Launch()
}

// TestBlame: a fault is blamed on one kernel only if no other may have caused it.
func TestBlame(t *testing.T) {
	for _, e := range platforms {
		for name, c := range map[string]struct {
			work     func(d hip.Device, y hip.Ptr) error
			launches int // 1: a LaunchError
			last     string
		}{
			"after kernels that have ended": {func(d hip.Device, y hip.Ptr) error {
				return errors.Join(scaleOn(d, y, 64, 2), d.Sync(), wander(d, y))
			}, 1, wild.Name},
			"before a kernel": {func(d hip.Device, y hip.Ptr) error {
				return errors.Join(wander(d, y), scaleOn(d, y, 64, 2))
			}, 2, scale.Name},
			"in a graph": {func(d hip.Device, y hip.Ptr) error {
				g, err := capture(d, func(r hip.Device) error { return errors.Join(wander(r, y), scaleOn(r, y, 64, 2)) })
				if err != nil {
					return err
				}
				return errors.Join(scaleOn(d, y, 64, 2), g.Launch())
			}, 3, scale.Name},
			"alone in a graph": {func(d hip.Device, y hip.Ptr) error {
				g, err := capture(d, func(r hip.Device) error { return wander(r, y) })
				if err != nil {
					return err
				}
				return g.Launch()
			}, 1, wild.Name},
			"after an event that has passed": {func(d hip.Device, y hip.Ptr) error {
				// Writes fill all stages and use the first again, whose event is after the
				// first kernel alone.
				big, err := d.Alloc(64 << 20)
				if err != nil {
					return err
				}
				return errors.Join(scaleOn(d, y, 64, 2), d.Write(big, make([]byte, 40<<20)), scaleOn(d, y, 64, 2),
					d.Write(big, make([]byte, 20<<20)), wander(d, y))
			}, 2, wild.Name},
		} {
			t.Run(e.Platform+"/"+name, func(t *testing.T) {
				m := emulator.New(t, e)
				d := must(hip.Open(0, m.Options()))
				y := must(hip.Upload(d, values(64)))
				require.NoError(t, c.work(d, y))
				err := d.Sync()
				if c.launches == 1 {
					requireBlamed(t, err, c.last)
				} else {
					var some *gpu.FaultError
					require.ErrorAs(t, err, &some)
					require.Equal(t, c.launches, some.Launches)
					require.Equal(t, c.last, some.Last)
				}
				require.NoError(t, d.Close())
			})
		}
	}
}

// TestALentStreamHasOtherKernels: no kernel is blamed alone. A driver that refuses to wait
// for the stream while the engine captures it has not failed.
func TestALentStreamHasOtherKernels(t *testing.T) {
	m := emulator.New(t, emulator.Settings{NoPools: true})
	engine := must(hip.Open(0, m.Options()))
	opts := m.Options()
	opts.Stream = engine.(streamer).Stream()
	d := must(hip.Open(0, opts))
	y := must(hip.Upload(d, values(64)))
	require.NoError(t, wander(d, y))
	var some *gpu.FaultError
	require.ErrorAs(t, d.Sync(), &some)
	require.Equal(t, gpu.FaultError{Launches: 1, Last: wild.Name, Err: some.Err}, *some)
	require.NoError(t, d.Close())

	_, err := capture(engine, func(r hip.Device) error {
		opts.Stream = r.(streamer).Stream()
		d := must(hip.Open(0, opts))
		for range 2 {
			var refused *gpu.DriverError
			require.ErrorAs(t, d.Sync(), &refused)
			require.Equal(t, 900, refused.Code)
		}
		p, err := d.Alloc(64)
		require.NoError(t, errors.Join(err, d.Free(p)), "the device goes on")
		require.ErrorContains(t, d.Close(), "900")
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, engine.Close())
}

// TestAFaultOfAnotherDevice: in CUDA all devices of a GPU have one context, and a fault of
// an engine's kernel ends them all. None of ours is blamed for it.
func TestAFaultOfAnotherDevice(t *testing.T) {
	m := emulator.New(t, emulator.Settings{Platform: "cuda", Wave: 32, Eager: true})
	engine, d := must(hip.Open(0, m.Options())), must(hip.Open(0, m.Options()))
	y, z := must(hip.Upload(engine, values(64))), must(hip.Upload(d, values(64)))
	require.NoError(t, wander(engine, y))
	err := scaleOn(d, z, 64, 2)
	var driver *gpu.DriverError
	require.ErrorAs(t, err, &driver)
	require.Equal(t, 719, driver.Code)
	require.Equal(t, error(driver), err, "no kernel is named")
	require.Equal(t, err, d.Sync())
	require.Error(t, engine.Sync())
	require.NoError(t, errors.Join(d.Close(), engine.Close()))
}

// TestAFaultIsToldOnce, however many calls of the driver report it.
func TestAFaultIsToldOnce(t *testing.T) {
	for _, e := range platforms {
		m := emulator.New(t, e)
		d := must(hip.Open(0, m.Options()))
		y := must(hip.Upload(d, values(64)))
		z, _, err := d.(sharer).AllocShared(64)
		require.NoError(t, err)
		require.NoError(t, wander(d, y))
		err = d.Free(z)
		require.Equal(t, 1, strings.Count(err.Error(), "error 719"), "%v", err)
		require.NoError(t, d.Close())
	}
}
