package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

func TestKernels(t *testing.T) {
	args := []string{"-time", "1ms", "-batch", "1", "-commit", "2", "-prefill", "1", "-context", "40", "-k", "1", "-cheap=false"}
	code, stdout, stderr := runBench(append(args, "-json", "-kernels")...)
	require.Equal(t, cli.OK, code, stderr)
	var raw map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &raw))
	require.NotEmpty(t, raw["kernels"])
	for _, k := range raw["kernels"].([]any) {
		require.ElementsMatch(t, []string{"kernel", "launches", "seconds"}, keysOf(t, k))
	}
	var got summary
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	known := map[string]bool{"(copy)": true, "(write)": true, "(read)": true}
	for _, k := range hip.Kernels() {
		known[k.Name] = true
	}
	sum, launched := 0.0, 0
	for i, k := range got.Kernels {
		require.True(t, known[k.Kernel], k.Kernel)
		require.Positive(t, k.Launches)
		require.Positive(t, k.Seconds)
		require.True(t, i == 0 || k.Seconds <= got.Kernels[i-1].Seconds, "the longest first")
		sum += k.Seconds
		if !strings.HasPrefix(k.Kernel, "(") {
			launched++
		}
	}
	require.Greater(t, launched, 5)
	require.Positive(t, got.KernelsStepSeconds)

	code, stdout, stderr = runBench(append(args, "-kernels")...)
	require.Equal(t, cli.OK, code, stderr)
	require.Contains(t, stdout, "kernel of a step")
	require.Contains(t, stdout, "100.0 %")
	_, declared, _ := strings.Cut(stdout, "kernel on a GPU")
	require.Regexp(t, `product_tiled_32 +17 rows on, matrix units +256 +3e-05\n`, declared)
	for line := range strings.Lines(declared) {
		require.LessOrEqual(t, utf8.RuneCountInString(line), 81, line)
	}

	code, stdout, stderr = runBench(append(args, "-json")...)
	require.Equal(t, cli.OK, code, stderr)
	require.NotContains(t, stdout, "kernels", "only when asked for")
}

func TestKernelsGiveTheirMemoryBack(t *testing.T) {
	b := loaded(t)
	bytes, live := hiptest.InUse(b.device)
	require.NoError(t, b.measureKernels(t.Context()))
	gotBytes, gotLive := hiptest.InUse(b.device)
	require.Equal(t, [2]int64{bytes, int64(live)}, [2]int64{gotBytes, int64(gotLive)})
}

// called is a device that counts how it is called, with a clock of its own. Without
// memory to adopt or fill, it can do nothing else.
type called struct {
	hip.Device
	syncs, launches int
	compiled        []*hip.Kernel
	err             error
}

func (c *called) Sync() error { c.syncs++; return nil }
func (c *called) Launch(*hip.Kernel, hip.Grid, unsafe.Pointer) error {
	c.launches++
	return c.err
}
func (c *called) Time(work func() error) (time.Duration, error) { return 3 * time.Second, work() }
func (c *called) Compile(_ context.Context, kernels ...*hip.Kernel) error {
	c.compiled = kernels
	return nil
}

type adopting struct{ called }

func (*adopting) Adopt([]byte, bool) (hip.Ptr, error) { return 7, nil }

type filling struct{ called }

func (*filling) Fill(hip.Ptr, int64, func([]byte, int64) error) error { return nil }

type both struct{ called }

func (*both) Adopt([]byte, bool) (hip.Ptr, error)                  { return 8, nil }
func (*both) Fill(hip.Ptr, int64, func([]byte, int64) error) error { return nil }

// TestKernelTimerPassesOn what a device can and nothing else: weights are uploaded
// by what a device says that it can.
func TestKernelTimerPassesOn(t *testing.T) {
	for _, c := range []struct {
		device        hip.Device
		adopts, fills bool
	}{{&called{}, false, false}, {&adopting{}, true, false}, {&filling{}, false, true}, {&both{}, true, true}} {
		_, d := newKernelTimer(c.device)
		_, adopts := d.(adopter)
		_, fills := d.(filler)
		_, captures := d.(interface {
			Capture(record func(d hip.Device) error) (launch, release func() error, err error)
		})
		require.Equal(t, []bool{c.adopts, c.fills, false}, []bool{adopts, fills, captures}, "%T", c.device)
		require.NoError(t, hip.Compile(t.Context(), d, &read.Kernel))
	}
	_, d := newKernelTimer(hip.NewReference())
	require.NoError(t, hip.Compile(t.Context(), d, &read.Kernel), "nothing to compile")
	require.NoError(t, d.Close())
}

func TestKernelTimerAddsUp(t *testing.T) {
	c := &called{}
	timer, d := newKernelTimer(c)
	for range 2 {
		require.NoError(t, d.Launch(&read.Kernel, hip.Grid{Blocks: 1}, nil))
	}
	require.Equal(t, 2, c.launches)
	require.Equal(t, 2, c.syncs)
	require.Equal(t, map[string]kernelTime{"bench_read": {"bench_read", 2, 6}}, timer.take(), "by the device's clock")
	c.err = errors.New("broken")
	require.ErrorIs(t, d.Launch(&read.Kernel, hip.Grid{Blocks: 1}, nil), c.err)
	require.Empty(t, timer.take())
}

func TestMedianTimes(t *testing.T) {
	got := medianTimes([]map[string]kernelTime{
		{"a": {"a", 1, 1}, "b": {"b", 2, 5}},
		{"a": {"a", 1, 9}, "b": {"b", 2, 7}},
		{"a": {"a", 3, 2}, "b": {"b", 2, 6}, "c": {"c", 1, 100}},
	})
	require.Equal(t, []kernelTime{{"b", 2, 6}, {"a", 1, 2}, {"c", 0, 0}}, got)
	require.Empty(t, medianTimes(nil))
}
