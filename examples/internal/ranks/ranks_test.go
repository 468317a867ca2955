package ranks

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

func parsed(t *testing.T, args ...string) (l Layout, err error) {
	t.Helper()
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	l.Var(flags)
	require.NoError(t, flags.Parse(args))
	var wrong cli.Refused
	l.Check(&wrong)
	return l, wrong.Err()
}

func TestLayout(t *testing.T) {
	l, err := parsed(t)
	require.NoError(t, err)
	require.Equal(t, 1, l.Ranks())
	require.True(t, l.Prints())
	l, err = parsed(t, "-tp", "4", "-ep", "2")
	require.NoError(t, err)
	require.Equal(t, 8, l.Ranks())
	l, err = parsed(t, "-ep", "2", "-group", "id", "-rank", "1")
	require.NoError(t, err)
	require.False(t, l.Prints())
	for says, args := range map[string][]string{
		"-tp is 0, want 1 to 64":              {"-tp", "0"},
		"-ep is 65, want 1 to 64":             {"-ep", "65"},
		"-tp 16 and -ep 8 are 128 devices":    {"-tp", "16", "-ep", "8"},
		"it wants -group":                     {"-tp", "2", "-rank", "1"},
		"-rank is 2, want 0 to 1: -tp 2":      {"-tp", "2", "-rank", "2", "-group", "id"},
		"-rank is -1, want 0 to 1: -tp":       {"-tp", "2", "-rank", "-1", "-group", "id"},
		"-group is for two ranks or more: it": {"-group", "id"},
	} {
		_, err := parsed(t, args...)
		require.ErrorContains(t, err, says)
	}
}

// TestOpen: the ranks of one process have a device each; a rank that is a process has its own.
func TestOpen(t *testing.T) {
	opened, err := Layout{Tensor: 3, Expert: 1}.Open("cpu")
	require.NoError(t, err)
	require.Len(t, opened, 3)
	for _, d := range opened {
		require.NoError(t, d.Close())
	}
	opened, err = Layout{Tensor: 2, Expert: 1, Group: "id", Rank: 1}.Open("reference")
	require.NoError(t, err)
	require.Len(t, opened, 1)
	require.NoError(t, opened[0].Close())
	_, err = Layout{Tensor: 2, Expert: 1, Group: "id", Rank: 1}.Open("hip:998")
	require.ErrorIs(t, err, hip.ErrNoDevice)
	require.ErrorContains(t, err, `2 devices from "hip:998" on: device "hip:999"`)
}

// TestShares: the ranks have the shares of a grid, each once, and each its own device.
func TestShares(t *testing.T) {
	for _, l := range []Layout{{Tensor: 1, Expert: 1}, {Tensor: 2, Expert: 1}, {Tensor: 1, Expert: 3}, {Tensor: 2, Expert: 2}, {Tensor: 4, Expert: 2}} {
		opened, err := l.Open("cpu")
		require.NoError(t, err)
		var mu sync.Mutex
		seen := map[[2]mtp.Shard]hip.Device{}
		require.NoError(t, l.On(t.Context(), opened, func(_ context.Context, r *Rank) error {
			o := r.Options(mtp.Options{MaxDraft: 3})
			mu.Lock()
			defer mu.Unlock()
			seen[[2]mtp.Shard{o.TensorParallel, o.ExpertParallel}] = o.Device
			if o.MaxDraft != 3 || o.Device != opened[r.Number] || r.First() != (r.Number == 0) || (o.Group == nil) != (l.Ranks() == 1) {
				return fmt.Errorf("rank %d: %+v", r.Number, o)
			}
			return nil
		}))
		require.Len(t, seen, l.Ranks())
		if l.Ranks() > 1 {
			for share := range seen {
				require.Equal(t, [2]int{l.Tensor, l.Expert}, [2]int{share[0].Size, share[1].Size})
			}
		}
		for _, d := range opened {
			require.NoError(t, d.Close())
		}
	}
}

// told checks what ranks tell each other.
func told(ctx context.Context, r *Rank) error {
	type part struct {
		Text   string
		Values []float64
	}
	own := part{Text: fmt.Sprint("rank ", r.Number), Values: make([]float64, 3*r.Number)}
	all, err := All(ctx, r, own)
	if err != nil {
		return err
	}
	if len(all) != r.Layout().Ranks() {
		return fmt.Errorf("%d ranks", len(all))
	}
	for i, p := range all {
		if p.Text != fmt.Sprint("rank ", i) || len(p.Values) != 3*i {
			return fmt.Errorf("rank %d told %+v", i, p)
		}
	}
	for _, want := range []bool{true, false, true} { // only the first rank's counts
		got, err := r.Agree(ctx, func() bool { return want == r.First() })
		if err != nil || got != want {
			return fmt.Errorf("agreed on %t, want %t: %w", got, want, err)
		}
	}
	return nil
}

func TestAll(t *testing.T) {
	for _, l := range []Layout{{Tensor: 1, Expert: 1}, {Tensor: 2, Expert: 1}, {Tensor: 4, Expert: 2}} {
		opened, err := l.Open("cpu")
		require.NoError(t, err)
		require.NoError(t, l.On(t.Context(), opened, told))
		for _, d := range opened {
			require.NoError(t, d.Close())
		}
	}
}

// TestRankFails: the first error is the one that is returned, with the number of its rank,
// and no other rank waits; an error of the input is nobody's own.
func TestRankFails(t *testing.T) {
	l := Layout{Tensor: 3, Expert: 1}
	opened, err := l.Open("cpu")
	require.NoError(t, err)
	broken := errors.New("broken")
	fail := func(with error) error {
		return l.On(t.Context(), opened, func(ctx context.Context, r *Rank) error {
			if r.Number == 1 {
				return with
			}
			_, err := r.Agree(ctx, func() bool { return true })
			_, allErr := All(ctx, r, 1)
			if allErr == nil {
				return errors.New("a rank that failed has told something")
			}
			return errors.Join(err, allErr)
		})
	}
	err = fail(broken)
	require.ErrorIs(t, err, broken)
	require.Equal(t, "rank 1: broken", err.Error())
	err = fail(&hip.InputError{Op: "test", Field: "size", Got: 3, Want: "4"})
	require.Equal(t, "test: size is 3, want 4", err.Error())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, l.On(ctx, opened, told), context.Canceled)
	require.NoError(t, l.On(t.Context(), opened, told), "the devices go on")
}

// TestProcesses: ranks that meet by a file, as in processes of their own, here of one with
// emulated GPUs. The file is gone afterwards, and serves the next group.
func TestProcesses(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	driver := hiptest.NewEmulator(t, "cuda", 1<<28)
	l := Layout{Tensor: 2, Expert: 1, Group: filepath.Join(t.TempDir(), "group"), library: driver.Options().Library}
	devices := make([]hip.Device, 2)
	for i := range devices {
		d, err := hip.Open(i, driver.Options())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.Close()) })
		devices[i] = d
	}
	for range 2 {
		errs := make([]error, 2)
		var all sync.WaitGroup
		for i, d := range devices {
			l := l
			l.Rank = i
			all.Go(func() {
				errs[i] = l.On(t.Context(), []hip.Device{d}, func(ctx context.Context, r *Rank) error {
					if r.Number != i || r.Options(mtp.Options{}).TensorParallel != (mtp.Shard{Rank: i, Size: 2}) {
						return fmt.Errorf("rank %d is %d", i, r.Number)
					}
					return told(ctx, r)
				})
			})
		}
		all.Wait()
		require.NoError(t, errors.Join(errs...))
		require.NoFileExists(t, l.Group)
	}

	none := func(context.Context, *Rank) error { return errors.New("a group was formed") }
	require.NoError(t, os.WriteFile(l.Group, []byte("old"), 0o600))
	require.ErrorContains(t, l.On(t.Context(), devices[:1], none), "group exists, want a new name")
	l.Rank = 1
	require.ErrorContains(t, l.On(t.Context(), devices[1:], none), "group has 3 bytes, want the 128 of a group's id")
	require.NoError(t, os.Remove(l.Group))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, l.On(ctx, devices[1:], none), context.Canceled)
	l.Rank, l.Group = 0, filepath.Join(t.TempDir(), "absent", "group")
	require.ErrorIs(t, l.On(t.Context(), devices[:1], none), os.ErrNotExist)

	host := hip.NewHost(1)
	defer host.Close()
	err := l.On(t.Context(), []hip.Device{host}, none)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "-group is for GPUs")
}
