package mtp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// TestEngineMemoryOnACheckedDevice: what the docs of Hidden show works on a device that
// compares every launch, which reads what the engine has written since the last one.
func TestEngineMemoryOnACheckedDevice(t *testing.T) {
	const n, bytes = 5, 4 * 5 * hiddenSize
	files, x := synthetic{}.files(t), randomPassage(32, n)
	plain := load(t, files, mtp.Options{CacheFormat: attention.CacheF32})
	want := forward(t, plain, x.batch(newCache(t, plain, 2).NewSequence(), 0, n), 0)
	for _, e := range gpuPlatforms {
		t.Run(e, func(t *testing.T) {
			m := hiptest.NewEmulator(t, e, 0)
			engine := openEmulated(t, m.Options(), 0)
			opts := m.Options()
			opts.Stream = ability[interface{ Stream() uintptr }](engine).Stream()
			d, err := hip.Open(0, opts)
			require.NoError(t, err)
			head := load(t, files, mtp.Options{Device: hip.Check(d), CacheFormat: attention.CacheF32})
			cache := newCache(t, head, 8)

			states, err := engine.Alloc(bytes)
			require.NoError(t, err)
			out, err := engine.Alloc(bytes)
			require.NoError(t, err)
			require.NoError(t, hip.Import(head.Device(), states, bytes))
			require.NoError(t, hip.Import(head.Device(), out, bytes))
			for range 2 {
				require.NoError(t, hip.WriteOf(engine, out, make([]float32, n*hiddenSize)))
				require.NoError(t, hip.WriteOf(engine, states, x.hidden))
				b := x.batch(cache.NewSequence(), 0, n)
				b.Hidden, b.Output = mtp.Hidden{Device: states}, out
				_, err = head.Forward(t.Context(), b, 0)
				require.NoError(t, err)
				got := make([]float32, n*hiddenSize)
				require.NoError(t, hip.ReadOf(engine, got, out))
				require.NoError(t, hiptest.Within(got, want, 2e-3))
				clear(got)
				require.NoError(t, hip.WriteOf(engine, states, got), "an engine's next states, which the mirror has yet to see")
			}
			require.NoError(t, head.Device().Free(states))
			require.NoError(t, head.Device().Free(out))
			require.NoError(t, head.Close())
			require.NoError(t, d.Close())
			require.NoError(t, engine.Close())
		})
	}
}
