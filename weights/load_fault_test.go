package weights

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// errFault is what a file, and a faulty device, fails with.
var errFault = errors.New("fault")

// faulty is what [hiptest.NewFaulty] returns.
type faulty interface {
	hip.Device
	FailAt(n int, ops ...string) (calls int)
	Next(op string) error
}

// adopting is a device that adopts memory, which may fail.
type adopting struct {
	faulty
	adopter adopter
}

func (a adopting) Adopt(mem []byte, writable bool) (hip.Ptr, error) {
	if err := a.Next("adopt"); err != nil {
		return 0, err
	}
	return a.adopter.Adopt(mem, writable)
}

// TestLoadDeviceFaults fails every single call of the device in turn: the error
// names the parameter and everything is given back.
func TestLoadDeviceFaults(t *testing.T) {
	plan, _ := headPlan(t, smallHead, mixed)
	for _, test := range []struct {
		name    string
		kind    string
		inPlace bool
		calls   interval // that a load makes
	}{
		{"alloc of an upload", "alloc", false, interval{30, 60}},
		{"write of an upload", "write", false, interval{30, 60}},
		{"alloc in place", "alloc", true, interval{11, 12}}, // 6 tables and 5 vectors
		{"write in place", "write", true, interval{11, 12}},
		{"adopt", "adopt", true, interval{2, 3}}, // the files
	} {
		t.Run(test.name, func(t *testing.T) {
			host := hip.NewReference()
			defer host.Close()
			for good := 0; ; good++ {
				f := hiptest.NewFaulty(host, errFault)
				f.FailAt(good+1, test.kind)
				var d hip.Device = f
				if test.inPlace {
					d = adopting{f, host.(adopter)}
				}
				l, err := plan.Load(t.Context(), d, false, false, nil)
				if err == nil {
					require.True(t, test.calls[0] <= good && good < test.calls[1], "%d calls", good)
					require.Equal(t, good, f.FailAt(0), "every call was failed once")
					require.NoError(t, l.Close())
					require.Equal(t, [2]int64{}, inUse(host))
					return
				}
				require.Nil(t, l)
				require.ErrorIs(t, err, errFault)
				require.ErrorContains(t, err, "model.")
				require.Equal(t, [2]int64{}, inUse(host), "after %d good calls", good)
			}
		})
	}
}

// TestLoadReportsFailedFrees: neither the fault nor the failing Free is lost.
func TestLoadReportsFailedFrees(t *testing.T) {
	plan, _ := headPlan(t, smallHead, mixed)
	host := hip.NewReference()
	defer host.Close()
	d := hiptest.NewFaulty(host, errFault)
	d.FailAt(1, "free")
	l, err := plan.Load(t.Context(), d, false, false, nil)
	require.NoError(t, err)
	require.ErrorIs(t, l.Close(), errFault)
	require.NoError(t, l.Close(), "a second time")
	require.Equal(t, [2]int64{}, inUse(host), "the others are freed all the same")

	ctx, cancel := context.WithCancel(t.Context())
	d.FailAt(1, "free")
	_, err = plan.Load(ctx, d, false, false, func(int64, int64) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, errFault)
}

// TestLoadCanceled ends the context at every single call of Progress.
func TestLoadCanceled(t *testing.T) {
	plan, s := headPlan(t, smallHead, mixed)
	params := headOf(t, smallHead, Parallel{})
	host := hip.NewReference()
	defer host.Close()
	for _, test := range []struct {
		name     string
		d        hip.Device
		populate bool
	}{
		{"in place", host, false},
		{"populated", host, true},
		{"uploaded", bare{host}, false},
		{"filled", filling{hiptest.NewFaulty(host, errFault)}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			canceled, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := plan.Load(canceled, test.d, test.populate, false, nil)
			require.ErrorIs(t, err, context.Canceled, "before the load")
			for n := 1; ; n++ {
				ctx, cancel := context.WithCancel(t.Context())
				calls := 0
				l, err := plan.Load(ctx, test.d, test.populate, false, func(int64, int64) {
					if calls++; calls == n {
						cancel()
					}
				})
				cancel()
				if calls < n {
					require.NoError(t, err)
					require.Greater(t, n, 20)
					requireShare(t, host, l, params, s)
					require.NoError(t, l.Close())
					break
				}
				require.Nil(t, l)
				require.ErrorIs(t, err, context.Canceled, "call %d", n)
				require.Equal(t, n, calls, "nothing is moved after the context ended")
				require.Equal(t, [2]int64{}, inUse(host))
			}
		})
	}
}

// shrinking fails reads once the header was read.
type shrinking struct {
	fs.FS
	broken *bool
}

type shrunkFile struct {
	fs.File
	broken *bool
}

func (s shrinking) Open(name string) (fs.File, error) {
	f, err := s.FS.Open(name)
	if err != nil || name == "." {
		return f, err
	}
	return shrunkFile{f, s.broken}, nil
}

func (f shrunkFile) ReadAt(p []byte, off int64) (int, error) {
	if *f.broken {
		return 0, errFault
	}
	return f.File.(interface {
		ReadAt([]byte, int64) (int, error)
	}).ReadAt(p, off)
}

func TestLoadReadFaults(t *testing.T) {
	params := headOf(t, smallHead, Parallel{})
	s := synthesize(params, mixed)
	broken := false
	c := openHead(t, shrinking{inMap(s.files(1)), &broken})
	plan, err := NewPlan(c, params)
	require.NoError(t, err)
	d := hip.NewHost()
	defer d.Close()
	for good := 0; ; good++ { // uploads before the file breaks
		calls := 0
		broken = good == 0
		l, err := plan.Load(t.Context(), d, false, false, func(int64, int64) {
			calls++
			broken = calls == good
		})
		if err == nil { // it broke after the last of them
			require.Equal(t, good, calls)
			require.Greater(t, good, 20)
			require.NoError(t, l.Close())
			return
		}
		require.ErrorIs(t, err, errFault)
		require.ErrorContains(t, err, "model-0.safetensors")
		require.Equal(t, [2]int64{}, inUse(d))
	}
}

// TestLoadPopulateFaults closes the checkpoint under a load.
func TestLoadPopulateFaults(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files are not mapped on windows")
	}
	params := headOf(t, smallHead, Parallel{})
	c := openHead(t, os.DirFS(onDisk(t, synthesize(params, mixed).files(1))))
	plan, err := NewPlan(c, params)
	require.NoError(t, err)
	d, vectors, calls := hip.NewReference(), 5, 0
	defer d.Close()
	_, err = plan.Load(t.Context(), d, true, false, func(int64, int64) {
		if calls++; calls == vectors+1 {
			require.NoError(t, c.Close())
		}
	})
	require.ErrorIs(t, err, fs.ErrClosed)
	require.ErrorContains(t, err, "populate")
	require.Equal(t, vectors+1, calls)
	require.Equal(t, [2]int64{}, inUse(d))
}

func TestLoadFromClosedCheckpoint(t *testing.T) {
	params := headOf(t, smallHead, Parallel{})
	s := synthesize(params, mixed)
	for name, fsys := range map[string]fs.FS{"mapped": os.DirFS(onDisk(t, s.files(1))), "io.ReaderAt": inMap(s.files(1))} {
		c := openHead(t, fsys)
		plan, err := NewPlan(c, params)
		require.NoError(t, err)
		require.NoError(t, c.Close())
		d := hip.NewHost()
		_, err = plan.Load(t.Context(), d, true, false, nil)
		require.ErrorIs(t, err, fs.ErrClosed, name)
		require.Equal(t, [2]int64{}, inUse(d))
		require.NoError(t, d.Close())
		_, err = plan.Load(t.Context(), d, false, false, nil)
		require.Error(t, err, "on a closed device")
	}
}
