package hip_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// newGroup returns a group of CPU devices, one of each kind in turn.
func newGroup(t *testing.T, ranks int, options ...hip.GroupOptions) ([]*hip.Group, []hip.Device) {
	devices := make([]hip.Device, ranks)
	for i := range devices {
		switch i % 3 {
		case 0:
			devices[i] = hip.NewHost(1)
		case 1:
			devices[i] = hip.NewReference()
		default:
			devices[i] = hip.Check(hip.NewHost(1))
		}
		t.Cleanup(func() { devices[i].Close() })
	}
	groups, err := hip.NewGroup(t.Context(), devices, options...)
	require.NoError(t, err)
	return groups, devices
}

// eachRank calls do on every rank at once and returns their errors.
func eachRank(groups []*hip.Group, devices []hip.Device, do func(g *hip.Group, d hip.Device) error) []error {
	errs := make([]error, len(groups))
	var all sync.WaitGroup
	for i, g := range groups {
		all.Go(func() { errs[i] = do(g, devices[i]) })
	}
	all.Wait()
	return errs
}

func TestAllReduce(t *testing.T) {
	for _, ranks := range []int{1, 2, 3, 8} {
		groups, devices := newGroup(t, ranks)
		got := make([][]float32, ranks)
		for _, err := range eachRank(groups, devices, func(g *hip.Group, d hip.Device) error {
			values := []float32{float32(g.Rank() + 1), 1e8, -1e8, float32(math.Inf(1)), 0.1}
			if g.Rank() > 0 { // 1e8 + 1 − 1e8 is 1 in float64
				values[1], values[2] = 1, 0
			}
			p, err := hip.Upload(d, values)
			if err != nil {
				return err
			}
			if err := g.AllReduce(d, p, len(values)); err != nil {
				return err
			}
			got[g.Rank()] = make([]float32, len(values))
			return hip.ReadOf(d, got[g.Rank()], p)
		}) {
			require.NoError(t, err)
		}
		tenths := 0.0
		for range ranks {
			tenths += float64(float32(0.1))
		}
		want := []float32{float32(ranks*(ranks+1)) / 2, float32(1e8 + float64(ranks-1)), -1e8, float32(math.Inf(1)), float32(tenths)}
		for rank := range got {
			require.Equal(t, want, got[rank], "rank %d of %d", rank, ranks)
		}
	}
}

func TestAllReduceBF16(t *testing.T) {
	groups, devices := newGroup(t, 3)
	for _, err := range eachRank(groups, devices, func(g *hip.Group, d hip.Device) error {
		// 1 + 2^-8 + 2^-8: each alone rounds to 1, their sum does not.
		values := []hip.BF16{hip.ToBF16([]float32{1, 1.0 / 256, 1.0 / 256}[g.Rank()]), hip.ToBF16(float32(math.NaN()))}
		p, err := hip.Upload(d, values)
		if err != nil {
			return err
		}
		if err := g.AllReduceBF16(d, p, 2); err != nil {
			return err
		}
		if err := hip.ReadOf(d, values, p); err != nil {
			return err
		}
		if v := values[0].Float32(); v != 1+1.0/128 {
			return errors.New("wrong sum")
		}
		if v := values[1].Float32(); v == v {
			return errors.New("NaN got lost")
		}
		return nil
	}) {
		require.NoError(t, err)
	}
}

func TestAllGatherAndBroadcast(t *testing.T) {
	groups, devices := newGroup(t, 4)
	for _, err := range eachRank(groups, devices, func(g *hip.Group, d hip.Device) error {
		for range 10 {
			all, err := g.Exchange([]byte{byte(g.Rank()), 7})
			if err != nil {
				return err
			}
			for rank, bytes := range all {
				if string(bytes) != string([]byte{byte(rank), 7}) {
					return errors.New("wrong bytes")
				}
			}
			for root := range g.Size() {
				values := []int32{int32(100 + g.Rank())}
				p, err := hip.Upload(d, values)
				if err != nil {
					return err
				}
				if err := errors.Join(g.Broadcast(d, p, 4, root), hip.ReadOf(d, values, p), d.Free(p)); err != nil {
					return err
				}
				if values[0] != int32(100+root) {
					return errors.New("wrong broadcast")
				}
			}
		}
		return nil
	}) {
		require.NoError(t, err)
	}
}

// TestGroupFails: whatever happens on one rank, no rank waits for ever, and all say why.
func TestGroupFails(t *testing.T) {
	exchange := func(g *hip.Group, n int) error {
		stop := g.Watch(context.Background())
		_, err := g.Exchange(make([]byte, n))
		return errors.Join(err, stop())
	}
	for _, c := range []struct {
		name string
		rank func(g *hip.Group) error // what rank 1 does; the others exchange 4 bytes
		says string
	}{
		{"another size", func(g *hip.Group) error { return exchange(g, 5) }, "the ranks were given different work"},
		{"never comes", func(g *hip.Group) error { return hip.ErrGroup }, "for rank 1"},
		{"closed", func(g *hip.Group) error { return errors.Join(g.Close(), hip.ErrGroup) }, "rank 1 has left"},
		{"canceled", func(g *hip.Group) error {
			ctx, cancel := context.WithCancel(t.Context())
			stop := g.Watch(ctx)
			cancel()
			for g.Err() == nil {
			}
			return stop()
		}, "context canceled"},
		{"aborted", func(g *hip.Group) error {
			g.Abort(errors.New("out of coffee"))
			return exchange(g, 4)
		}, "out of coffee"},
	} {
		t.Run(c.name, func(t *testing.T) {
			most := time.Minute
			if c.name == "never comes" {
				most = 50 * time.Millisecond
			}
			groups, devices := newGroup(t, 3, hip.GroupOptions{Timeout: most})
			for rank, err := range eachRank(groups, devices, func(g *hip.Group, _ hip.Device) error {
				if g.Rank() == 1 {
					return c.rank(g)
				}
				return exchange(g, 4)
			}) {
				require.ErrorIs(t, err, hip.ErrGroup, "rank %d", rank)
				if rank != 1 {
					require.ErrorContains(t, err, c.says, "rank %d", rank)
				}
			}
			for _, g := range groups {
				require.Error(t, g.AllReduce(devices[g.Rank()], 0, 1), "a failed group stays failed")
				if err := g.Close(); err != nil {
					require.ErrorIs(t, err, hip.ErrClosed)
				}
				require.ErrorIs(t, g.Err(), hip.ErrClosed)
			}
			again, err := hip.NewGroup(t.Context(), devices)
			require.NoError(t, err)
			for _, err := range eachRank(again, devices, func(g *hip.Group, _ hip.Device) error { return exchange(g, 4) }) {
				require.NoError(t, err)
			}
		})
	}
}

// TestRankLeaves: a rank that leaves takes nothing from those that it has exchanged data
// with. Who waits for it afterwards fails.
func TestRankLeaves(t *testing.T) {
	for range 20 {
		groups, devices := newGroup(t, 3)
		for rank, err := range eachRank(groups, devices, func(g *hip.Group, _ hip.Device) error {
			_, err := g.Exchange([]byte{1})
			return errors.Join(err, g.Close())
		}) {
			require.NoError(t, err, "rank %d", rank)
		}
	}
	groups, devices := newGroup(t, 2)
	require.NoError(t, groups[1].Close())
	require.NoError(t, groups[0].Err())
	_, err := groups[0].Exchange([]byte{1})
	require.ErrorIs(t, err, hip.ErrGroup)
	require.ErrorContains(t, err, "rank 1 has left the group")
	require.NoError(t, errors.Join(groups[0].Close(), devices[0].Sync()))
}

func TestGroupRefuses(t *testing.T) {
	groups, devices := newGroup(t, 2)
	d, g := devices[0], groups[0]
	_, err := hip.NewGroup(t.Context(), nil)
	require.ErrorContains(t, err, "devices is none")
	_, err = hip.NewGroup(t.Context(), []hip.Device{d, nil})
	require.ErrorContains(t, err, "devices[1] is nil")
	_, err = hip.NewGroupID(d)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = hip.JoinGroup(t.Context(), d, hip.GroupID{1}, 0, 2)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	for _, c := range []struct {
		id         hip.GroupID
		rank, size int
		field      string
	}{{hip.GroupID{1}, 0, 0, "size"}, {hip.GroupID{1}, 2, 2, "rank"}, {hip.GroupID{1}, -1, 2, "rank"}, {hip.GroupID{}, 0, 2, "id"}} {
		var wrong *hip.InputError
		_, err := hip.JoinGroup(t.Context(), d, c.id, c.rank, c.size)
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, c.field, wrong.Field)
	}
	p, err := d.Alloc(64)
	require.NoError(t, err)
	require.ErrorIs(t, g.AllReduce(d, p, 17), hip.ErrAccess)
	require.ErrorIs(t, g.AllGather(d, p, p.Add(32), 33), hip.ErrAccess)
	require.ErrorContains(t, g.AllReduce(d, p, -1), "n is -1")
	require.ErrorContains(t, g.Broadcast(d, p, 4, 2), "root is 2")
	require.NoError(t, g.AllReduce(d, p, 0), "nothing to do needs no other rank")
	require.NoError(t, g.Err(), "refusals do not end a group")
}
