package gpu_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/hip/internal/emulator"
	"github.com/drafthead/drafthead/hip/internal/gpu"
	"github.com/drafthead/drafthead/hip/internal/need"
)

// mostPinned is how many stages a device has, of large writes, small ones and reads.
const mostPinned = 24 + 2 + 3

// noise returns n random bytes.
func noise(n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(p)
	return p
}

// requireBytes compares the memory at p.
func requireBytes(t *testing.T, d hip.Device, want []byte, p hip.Ptr) {
	t.Helper()
	got := make([]byte, len(want))
	require.NoError(t, d.Read(got, p))
	if !bytes.Equal(want, got) {
		at := 0
		for got[at] == want[at] {
			at++
		}
		t.Fatalf("byte %d of %d is %d, want %d", at, len(want), got[at], want[at])
	}
}

// fillFrom fills the memory at p with src, a part at a time.
func fillFrom(d hip.Device, p hip.Ptr, src []byte) error {
	return d.(filler).Fill(p, int64(len(src)), func(part []byte, off int64) error {
		copy(part, src[off:])
		return nil
	})
}

// TestUploadsOfManyGoroutines: more goroutines than there are stages write and fill ranges of
// one allocation, of every size. Each arrives as it was, and no more is pinned than the
// stages.
func TestUploadsOfManyGoroutines(t *testing.T) {
	for _, e := range append([]emulator.Settings{{Eager: true}, {Pinned: 3}, {Pinned: -1}}, platforms...) {
		t.Run(fmt.Sprintf("%v, pinned %d, eager %v", e, e.Pinned, e.Eager), func(t *testing.T) {
			m := emulator.New(t, e)
			d := must(hip.Open(0, m.Options()))
			want := noise(48 << 20)
			p := must(d.Alloc(int64(len(want))))
			r := rand.New(rand.NewPCG(1, 2))
			var group sync.WaitGroup
			for first := 0; first < len(want); {
				n := min(1+r.IntN([]int{100, 300 << 10, 3 << 20}[r.IntN(3)]), len(want)-first)
				src, to, fill := want[first:first+n], p.Add(int64(first)), r.IntN(2) == 0
				group.Go(func() {
					if fill {
						assert.NoError(t, fillFrom(d, to, src))
					} else {
						assert.NoError(t, d.Write(to, src))
					}
				})
				first += n
			}
			group.Wait()
			requireBytes(t, d, want, p)
			pinned := m.Counts().Pinned
			if e.Pinned != 0 {
				require.EqualValues(t, max(e.Pinned, 0), pinned)
			}
			require.LessOrEqual(t, pinned, int64(mostPinned))
			require.NoError(t, d.Close())
			require.Zero(t, m.Counts())
		})
	}
}

// TestUploadsAreInOrder: what one goroutine writes later wins, whatever the sizes, and
// kernels and copies see what was written before them.
func TestUploadsAreInOrder(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		const n = 3<<20 + 12
		want := noise(n)
		p, q := must(d.Alloc(n)), must(d.Alloc(n))
		require.NoError(t, d.Write(p, noise(n-1)))
		require.NoError(t, d.Write(p, want))
		require.NoError(t, d.Copy(q, p, n))
		require.NoError(t, fillFrom(d, p, make([]byte, n)))
		require.NoError(t, d.Write(p.Add(n/2), want[:100]))
		requireBytes(t, d, want, q)
		zeros := make([]byte, n)
		copy(zeros[n/2:], want[:100])
		requireBytes(t, d, zeros, p)
	})
}

// TestFillThatPanics leaves the stage to others.
func TestFillThatPanics(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		p := must(d.Alloc(1 << 20))
		for _, n := range []int64{100, 1 << 20} {
			for range 2 * mostPinned {
				require.Panics(t, func() { _ = d.(filler).Fill(p, n, func([]byte, int64) error { panic("caller's") }) })
			}
			want := noise(int(n))
			require.NoError(t, fillFrom(d, p, want))
			requireBytes(t, d, want, p)
		}
	})
}

// TestEveryCallOfAnUploadMayFail: it is an error of Write or Fill, or makes no difference; the
// device writes again after it, unless the stream itself is gone; and nothing is left.
func TestEveryCallOfAnUploadMayFail(t *testing.T) {
	want := noise(3<<20 + 1)
	for _, e := range platforms {
		for name, write := range map[string]func(d hip.Device, p hip.Ptr) error{
			"write": func(d hip.Device, p hip.Ptr) error { return d.Write(p, want) },
			"fill":  func(d hip.Device, p hip.Ptr) error { return fillFrom(d, p, want) },
			"small": func(d hip.Device, p hip.Ptr) error {
				for first := 0; first < len(want); first += 100 << 10 {
					if err := d.Write(p.Add(int64(first)), want[first:min(len(want), first+100<<10)]); err != nil {
						return err
					}
				}
				return nil
			},
		} {
			t.Run(name+" "+e.Platform, func(t *testing.T) {
				m := emulator.New(t, e)
				failed := 0
				for k := 1; ; k++ {
					d := must(hip.Open(0, m.Options()))
					p := must(d.Alloc(int64(len(want))))
					m.FailAt(k)
					err := write(d, p)
					calls := m.FailAt(0)
					if err != nil {
						failed++
						var driver *gpu.DriverError
						require.ErrorAs(t, err, &driver, "call %d", k)
						require.Equal(t, 304, driver.Code)
						require.NoError(t, write(d, p), "again")
					}
					requireBytes(t, d, want, p)
					require.NoError(t, d.Close())
					require.Zero(t, m.Counts(), "call %d: %v", k, err)
					if calls < k {
						break
					}
				}
				require.Greater(t, failed, 5)
			})
		}
	}
}

// BenchmarkUpload measures writes and fills of a GPU, by one goroutine and by eight, beside
// the bus: fills whose bytes are there already.
func BenchmarkUpload(b *testing.B) {
	const n = 256 << 20
	d := need.GPU(b)
	p, src := must(d.Alloc(n)), noise(n)
	nothing := func([]byte, int64) error { return nil }
	for name, upload := range map[string]func() error{
		"write": func() error { return d.Write(p, src) },
		"fill":  func() error { return fillFrom(d, p, src) },
		"bus":   func() error { return d.(filler).Fill(p, n, nothing) },
		"fill by several": func() error {
			errs := make([]error, min(8, runtime.GOMAXPROCS(0)))
			var group sync.WaitGroup
			for i := range errs {
				group.Go(func() {
					const part = 4 << 20
					for first := i * part; first < n && errs[i] == nil; first += len(errs) * part {
						errs[i] = fillFrom(d, p.Add(int64(first)), src[first:first+part])
					}
				})
			}
			group.Wait()
			return errors.Join(errs...)
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(n)
			for b.Loop() {
				if err := errors.Join(upload(), d.Sync()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
