package mtp_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// countingRanges is counting, of a device that checks ranges.
type countingRanges struct {
	*counting
}

func (d countingRanges) CheckRange(p hip.Ptr, n int64, write bool) error {
	checker, _ := hip.As[interface {
		CheckRange(p hip.Ptr, n int64, write bool) error
	}](d.Device)
	return checker.CheckRange(p, n, write)
}

// requireInput checks that an error is an InputError that names a field, wraps a rule and
// ends as it should.
func requireInput(t *testing.T, err error, field string, rule error, want string) {
	t.Helper()
	var input *mtp.InputError
	require.ErrorAs(t, err, &input)
	require.Equal(t, field, input.Field, "%v", err)
	require.Equal(t, want, input.Want)
	require.ErrorIs(t, err, mtp.ErrInput)
	require.ErrorIs(t, err, rule)
}

// TestMemoryIsCheckedFirst: memory that the device does not know, or not far enough, is
// refused by the name of the field before anything runs.
func TestMemoryIsCheckedFirst(t *testing.T) {
	const n, bytes = 5, 4 * hiddenSize
	d := openDevice(t, hip.NewReference())
	device := countingRanges{&counting{Device: d}}
	head := load(t, synthetic{}.files(t), mtp.Options{Device: device})
	cache, x := newCache(t, head, 8), randomPassage(31, n+3)
	s := cache.NewSequence()
	draft(t, head, x.batch(s, 0, 3), 2)
	free := cache.FreePages()

	short := upload(t, d, make([]float32, n*hiddenSize-1))
	enough := upload(t, d, make([]float32, n*hiddenSize))
	readOnly := adopt(t, d, make([]byte, n*bytes), false)
	const states = "5 × 32 float32 that the device knows (Alloc, Adopt, Import)"
	for name, c := range map[string]struct {
		change func(b *mtp.Batch)
		field  string
		want   string
	}{
		"unknown hidden":           {func(b *mtp.Batch) { b.Hidden = mtp.Hidden{Device: 64} }, "Hidden.Device", states},
		"short hidden":             {func(b *mtp.Batch) { b.Hidden = mtp.Hidden{Device: short} }, "Hidden.Device", states},
		"bfloat16 hidden":          {func(b *mtp.Batch) { b.Hidden = mtp.Hidden{Device: short.Add(2 * n * bytes), DeviceBFloat16: true} }, "Hidden.Device", "5 × 32 bfloat16 that the device knows (Alloc, Adopt, Import)"},
		"unknown embeds":           {func(b *mtp.Batch) { b.Embeds = mtp.Hidden{Device: 64} }, "Embeds.Device", states},
		"unknown output":           {func(b *mtp.Batch) { b.Output = 64 }, "Output", states + " and may write"},
		"short output":             {func(b *mtp.Batch) { b.Output = short }, "Output", states + " and may write"},
		"output to read":           {func(b *mtp.Batch) { b.Output = readOnly }, "Output", states + " and may write"},
		"output at an odd address": {func(b *mtp.Batch) { b.Output = enough.Add(2) }, "Output", "an address that is a multiple of 4"},
		"hidden at an odd address": {func(b *mtp.Batch) { b.Hidden = mtp.Hidden{Device: enough.Add(1), DeviceBFloat16: true} }, "Hidden.Device", "an address that is a multiple of 2"},
	} {
		t.Run(name, func(t *testing.T) {
			b := x.batch(s, 3, 3+n)
			c.change(b)
			rule := hip.ErrAccess
			if strings.Contains(name, "odd") {
				rule = mtp.ErrInput
			}
			launches := device.launches
			hidden, err := head.Forward(t.Context(), b, 0)
			requireInput(t, err, c.field, rule, c.want)
			require.Zero(t, hidden)
			if b.Output == 0 {
				_, err = draftOf(t.Context(), head, b, 2)
				requireInput(t, err, c.field, rule, c.want)
			}
			require.Equal(t, []int{3, free, launches}, []int{s.Len(), cache.FreePages(), device.launches})
		})
	}
	for name, c := range map[string]struct {
		hidden mtp.Hidden
		rows   []int
		field  string
		want   string
	}{
		"a row past the end":    {mtp.Hidden{Device: enough}, []int{0, 4, 5}, "rows[2]", "a row of the device memory at hidden.Device"},
		"a row that is too far": {mtp.Hidden{Device: enough, DeviceBFloat16: true}, []int{10}, "rows[0]", "a row of the device memory at hidden.Device"},
		"unknown memory":        {mtp.Hidden{Device: 64}, []int{3}, "hidden.Device", "1 × 32 float32 that the device knows (Alloc, Adopt, Import)"},
	} {
		t.Run(name, func(t *testing.T) {
			launches := device.launches
			_, err := head.Logits(t.Context(), c.hidden, c.rows, 0)
			requireInput(t, err, c.field, hip.ErrAccess, c.want)
			_, err = head.FinalNorm(t.Context(), c.hidden, c.rows, 0)
			requireInput(t, err, c.field, hip.ErrAccess, c.want)
			_, _, err = head.TopK(t.Context(), c.hidden, c.rows, 0, 1)
			requireInput(t, err, c.field, hip.ErrAccess, c.want)
			require.Equal(t, launches, device.launches)
		})
	}
	_, err := head.Logits(t.Context(), mtp.Hidden{}, nil, 0)
	requireInput(t, err, "hidden", mtp.ErrInput, "one of Float32, BFloat16, Device")
	_, err = head.Logits(t.Context(), mtp.Hidden{Device: enough}, []int{1 << 62}, 0)
	requireInput(t, err, "rows[0]", mtp.ErrInput, "0 to 72057594037927934")
}

// TestEngineMemory: an engine's own memory is refused by name until it is imported, and
// with the engine's stream nothing else is needed: hidden states that are queued there are
// seen, and the output is what the engine's next work finds.
func TestEngineMemory(t *testing.T) {
	const n = 5
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
			head := load(t, files, mtp.Options{Device: d, CacheFormat: attention.CacheF32})
			s := newCache(t, head, 4).NewSequence()
			states, err := engine.Alloc(4 * n * hiddenSize)
			require.NoError(t, err)
			out, err := engine.Alloc(4 * n * hiddenSize)
			require.NoError(t, err)

			b := x.batch(s, 0, n)
			b.Hidden, b.Output = mtp.Hidden{Device: states}, out
			for _, field := range []string{"Hidden.Device", "Output"} {
				_, err := head.Forward(t.Context(), b, 0)
				var input *mtp.InputError
				require.ErrorAs(t, err, &input)
				require.Equal(t, field, input.Field)
				require.ErrorIs(t, err, hip.ErrAccess)
				require.NoError(t, hip.Import(head.Device(), map[string]hip.Ptr{"Hidden.Device": states, "Output": out}[field], 4*n*hiddenSize))
			}
			require.NoError(t, hip.WriteOf(engine, states, x.hidden))
			hidden, err := head.Forward(t.Context(), b, 0)
			require.NoError(t, err)
			require.Equal(t, mtp.Hidden{Device: out}, hidden)
			got := make([]float32, n*hiddenSize)
			require.NoError(t, hip.ReadOf(engine, got, out))
			require.NoError(t, hiptest.Within(got, want, 2e-3))

			require.NoError(t, d.Free(states))
			require.NoError(t, d.Free(out))
			require.NoError(t, head.Close())
			requireEmpty(t, d)
			require.NoError(t, d.Close())
			require.NoError(t, engine.Close())
		})
	}
}
