package gpu_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/emulator"
)

// twoOf opens both devices of an emulator.
func twoOf(t *testing.T, m *emulator.Emulator) []hip.Device {
	t.Helper()
	var devices []hip.Device
	for n := range 2 {
		d, err := hip.Open(n, m.Options())
		require.NoError(t, err)
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				require.ErrorIs(t, err, hip.ErrClosed)
			}
		})
		devices = append(devices, d)
	}
	return devices
}

func groupOf(t *testing.T, m *emulator.Emulator, devices []hip.Device, timeout time.Duration) []*hip.Group {
	t.Helper()
	groups, err := hip.NewGroup(t.Context(), devices, hip.GroupOptions{Library: m.Options().Library, Timeout: timeout})
	require.NoError(t, err)
	return groups
}

// onRanks calls do on every rank at once.
func onRanks(groups []*hip.Group, devices []hip.Device, do func(rank int, g *hip.Group, d hip.Device) error) []error {
	errs := make([]error, len(groups))
	var all sync.WaitGroup
	for rank, g := range groups {
		all.Go(func() { errs[rank] = do(rank, g, devices[rank]) })
	}
	all.Wait()
	return errs
}

func eachGroupEmulation(t *testing.T, test func(t *testing.T, m *emulator.Emulator)) {
	for _, platform := range []string{"hip", "cuda"} {
		for _, eager := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, eager %t", platform, eager), func(t *testing.T) {
				test(t, emulator.New(t, emulator.Settings{Platform: platform, Wave: 32, Devices: 2, Eager: eager, Workers: 1}))
			})
		}
	}
}

// TestGroup: operations between two devices, launched one by one, recorded and replayed.
func TestGroup(t *testing.T) {
	eachGroupEmulation(t, func(t *testing.T, m *emulator.Emulator) {
		devices := twoOf(t, m)
		groups := groupOf(t, m, devices, time.Minute)
		for _, err := range onRanks(groups, devices, func(rank int, g *hip.Group, d hip.Device) error {
			replay := hip.NewReplayer(d, 4)
			values := []float32{float32(1 + rank), 10}
			p, err := hip.Upload(d, values)
			if err != nil {
				return err
			}
			want := float32(6) // 1 + 2, and that summed again
			for range 5 {
				err := replay.Run(func(d hip.Device) error { return errors.Join(g.AllReduce(d, p, 2), g.AllReduce(d, p, 2)) })
				if err := errors.Join(err, hip.ReadOf(d, values, p)); err != nil {
					return err
				}
				if values[0] != want {
					return fmt.Errorf("%v, want %v", values, want)
				}
				want *= 4
			}
			narrow := []hip.BF16{hip.ToBF16(float32(rank) + 0.5)}
			q, err := hip.Upload(d, narrow)
			if err := errors.Join(err, g.AllReduceBF16(d, q, 1), hip.ReadOf(d, narrow, q)); err != nil || narrow[0].Float32() != 2 {
				return fmt.Errorf("bfloat16: %v, %w", narrow[0].Float32(), err)
			}
			all, err := g.Exchange([]byte{byte(rank), 5, 6})
			if err != nil || all[0][0] != 0 || all[1][0] != 1 || all[1][2] != 6 {
				return fmt.Errorf("exchange: %v, %w", all, err)
			}
			one := []int32{int32(40 + rank)}
			r, err := hip.Upload(d, one)
			if err := errors.Join(err, g.Broadcast(d, r, 4, 1), hip.ReadOf(d, one, r)); err != nil || one[0] != 41 {
				return fmt.Errorf("broadcast: %v, %w", one, err)
			}
			return errors.Join(replay.Close(), d.Free(p), d.Free(q), d.Free(r), g.Close())
		}) {
			require.NoError(t, err)
		}
	})
}

// TestGroupEnds: a rank that waits for one that does other work, that never comes, or that
// is closed, gets an error. The device goes on, and the same ranks form a new group.
func TestGroupEnds(t *testing.T) {
	eachGroupEmulation(t, func(t *testing.T, m *emulator.Emulator) {
		devices := twoOf(t, m)
		exchange := func(g *hip.Group, n int) error {
			stop := g.Watch(context.Background())
			_, err := g.Exchange(make([]byte, n))
			return errors.Join(err, stop())
		}
		for name, other := range map[string]func(g *hip.Group) error{
			"another size": func(g *hip.Group) error { return exchange(g, 5) },
			"never comes":  func(g *hip.Group) error { return hip.ErrGroup },
			"aborted": func(g *hip.Group) error {
				g.Abort(errors.New("enough"))
				return exchange(g, 4)
			},
		} {
			groups := groupOf(t, m, devices, 100*time.Millisecond)
			for rank, err := range onRanks(groups, devices, func(rank int, g *hip.Group, d hip.Device) error {
				if rank == 1 {
					return other(g)
				}
				return exchange(g, 4)
			}) {
				require.ErrorIs(t, err, hip.ErrGroup, "%s, rank %d", name, rank)
			}
			for rank, g := range groups {
				require.Error(t, g.AllReduce(devices[rank], 0, 1), "it stays failed")
				require.NoError(t, g.Close())
				require.NoError(t, devices[rank].Sync())
			}
			again := groupOf(t, m, devices, time.Minute)
			for _, err := range onRanks(again, devices, func(_ int, g *hip.Group, _ hip.Device) error { return errors.Join(exchange(g, 4), g.Close()) }) {
				require.NoError(t, err)
			}
		}
	})
}

// TestGroupOfClosedDevice: a device that is closed before its group ends it.
func TestGroupOfClosedDevice(t *testing.T) {
	m := emulator.New(t, emulator.Settings{Devices: 2, Workers: 1})
	devices := twoOf(t, m)
	groups := groupOf(t, m, devices, time.Minute)
	require.NoError(t, devices[0].Close())
	require.ErrorIs(t, groups[0].Err(), hip.ErrGroup)
	for _, g := range groups {
		require.NoError(t, g.Close())
	}
}

// TestGroupLibrary: what is wrong with the library is said, with its name.
func TestGroupLibrary(t *testing.T) {
	old := emulator.New(t, emulator.Settings{Devices: 2, Groups: 2_708, Workers: 1})
	devices := twoOf(t, old)
	_, err := hip.NewGroup(t.Context(), devices, hip.GroupOptions{Library: old.Options().Library})
	require.ErrorContains(t, err, "version 2.7.8, want 2.11.0 or later")
	_, err = hip.NewGroup(t.Context(), devices, hip.GroupOptions{Library: t.TempDir() + "/librccl.so"})
	require.ErrorContains(t, err, "librccl.so")
	_, err = hip.NewGroupID(devices[0], hip.GroupOptions{Library: t.TempDir()})
	require.ErrorContains(t, err, "not found")
	_, err = hip.NewGroup(t.Context(), []hip.Device{devices[0], hip.NewReference()}, hip.GroupOptions{Library: old.Options().Library})
	require.ErrorContains(t, err, "1 GPUs and 1 others")
}

// TestGroupOfCheckedGPUs: GPUs that are checked need no library. Their groups exchange data
// by way of the host, as the copies that the checks compare with need it.
func TestGroupOfCheckedGPUs(t *testing.T) {
	m := emulator.New(t, emulator.Settings{Devices: 2, Workers: 1})
	devices := twoOf(t, m)
	absent := hip.GroupOptions{Library: t.TempDir() + "/librccl.so"}
	_, err := hip.NewGroup(t.Context(), devices, absent)
	require.Error(t, err)
	_, err = hip.NewGroup(t.Context(), []hip.Device{hip.Check(devices[0]), devices[1]}, absent)
	require.ErrorContains(t, err, "1 GPUs and 1 others")
	devices = []hip.Device{hip.Check(devices[0]), hip.Check(devices[1])}
	groups, err := hip.NewGroup(t.Context(), devices, absent)
	require.NoError(t, err)
	for _, err := range onRanks(groups, devices, func(rank int, g *hip.Group, d hip.Device) error {
		values := []float32{float32(1 + rank), 10}
		p, err := hip.Upload(d, values)
		if err := errors.Join(err, g.AllReduce(d, p, 2), hip.ReadOf(d, values, p), d.Free(p)); err != nil || values[0] != 3 || values[1] != 20 {
			return fmt.Errorf("%v, %w", values, err)
		}
		all, err := g.Exchange([]byte{byte(rank)})
		if err != nil || all[0][0] != 0 || all[1][0] != 1 {
			return fmt.Errorf("exchange: %v, %w", all, err)
		}
		return g.Close()
	}) {
		require.NoError(t, err)
	}
	_, err = hip.NewGroupID(devices[0])
	require.ErrorIs(t, err, errors.ErrUnsupported, "between processes there is no host in common")
}

// TestGroupCallsMayFail: whichever call of the library or the driver fails, it is an error,
// and nothing is left.
func TestGroupCallsMayFail(t *testing.T) {
	m := emulator.New(t, emulator.Settings{Devices: 2, Workers: 1})
	devices := twoOf(t, m)
	use := func(most time.Duration) error {
		groups, err := hip.NewGroup(t.Context(), devices, hip.GroupOptions{Library: m.Options().Library, Timeout: most})
		if err != nil {
			return err
		}
		errs := onRanks(groups, devices, func(_ int, g *hip.Group, _ hip.Device) error {
			stop := g.Watch(t.Context())
			_, err := g.Exchange([]byte{1})
			return errors.Join(err, stop())
		})
		for _, g := range groups {
			err := g.Close()
			if err != nil {
				require.NoError(t, g.Close(), "the next Close gives it back")
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	m.FailAt(0)
	require.NoError(t, use(time.Minute))
	calls := m.FailAt(0)
	require.Greater(t, calls, 10)
	for n := 1; n <= calls; n++ {
		m.FailAt(n)
		_ = use(100 * time.Millisecond) // the ranks' calls come in any order: some failures are of calls that free
		m.FailAt(0)
		require.NoError(t, use(time.Minute), "after call %d of %d had failed", n, calls)
	}
}
