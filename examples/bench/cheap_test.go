package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/ranks"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

func TestDraftTokens(t *testing.T) {
	for _, c := range []struct{ vocabulary, n int }{{200_064, 32_768}, {256, 64}, {5, 1}, {4, 4}, {7, 3}} {
		tokens := draftTokens(c.vocabulary, c.n)
		require.Len(t, tokens, c.n)
		require.True(t, slices.IsSorted(tokens))
		require.Len(t, slices.Compact(slices.Clone(tokens)), c.n, "each once")
		require.Less(t, int(tokens[c.n-1]), c.vocabulary)
		require.Zero(t, tokens[0])
	}
	tokens := draftTokens(200_064, 32_768)
	require.EqualValues(t, 24_575, tokens[24_575])
	require.Equal(t, []int32{24_576, 24_597, 24_618}, tokens[24_576:24_579])
	require.Greater(t, int(tokens[32_767]), 200_000)
}

func TestCheapDraftings(t *testing.T) {
	var names []string
	for _, d := range cheapDraftings(200_064) {
		names = append(names, d.appendTo("step"))
	}
	require.Equal(t, []string{"step, int8 lm_head", "step, 32768 draft tokens", "step, int8 lm_head, 32768 draft tokens"}, names)
	require.Equal(t, 64, cheapDraftings(256)[1].tokens)
	require.Equal(t, 1, cheapDraftings(2)[1].tokens)
}

// TestCheapBytes: a row with another lm_head reads that in place of the stored one.
func TestCheapBytes(t *testing.T) {
	code, stdout, stderr := runBench(quick("-json")...)
	require.Equal(t, cli.OK, code, stderr)
	var got summary
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	const h, v = 256, 256 // of shape nano
	stored := int64(h * v * 2)
	requantized := func(rows int64) int64 { return rows*h + rows*h/32*2 }
	for i, want := range []int64{stored, requantized(v), 64 * h * 2, requantized(64)} {
		r := got.Rows[i]
		require.Empty(t, r.Error)
		require.Equal(t, got.Rows[0].Bytes-stored+want, r.Bytes, r.Work)
	}
}

// TestCheapRowsGiveTheirMemoryBack, the head's cache among it.
func TestCheapRowsGiveTheirMemoryBack(t *testing.T) {
	b := loaded(t)
	inUse := func() [2]int64 {
		bytes, live := hiptest.InUse(b.device)
		return [2]int64{bytes, int64(live)}
	}
	before := inUse()
	for _, w := range b.works {
		if w.drafting != nil {
			r, err := b.measureCheap(t.Context(), w)
			require.NoError(t, err)
			require.Empty(t, r.Error)
			require.Positive(t, r.Runs)
			require.Equal(t, before, inUse(), w.name)
		}
	}
}

// loaded is a session that can measure.
func loaded(t *testing.T) *session {
	t.Helper()
	s, err := parse([]string{"-context", "40", "-time", "1ms"}, &strings.Builder{})
	require.NoError(t, err)
	device := hip.NewHost()
	b := &session{settings: s, rank: ranks.Only(device), stderr: &strings.Builder{}, device: device, out: &summary{}}
	b.source, err = s.open(t.Context(), b.stderr)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(b.close(), b.source.close(), device.Close())) })
	require.NoError(t, b.load(t.Context()))
	require.NoError(t, b.prepare(t.Context()))
	return b
}

// full is a device whose memory is used up.
type full struct{ hip.Device }

func (full) Alloc(n int64) (hip.Ptr, error) {
	return 0, fmt.Errorf("%w: %d bytes", hip.ErrOutOfMemory, n)
}

func TestCheapRowThatFails(t *testing.T) {
	b := loaded(t)
	w := b.works[1]
	device := b.device
	b.device = full{device}
	r, err := b.measureCheap(t.Context(), w)
	b.device = device
	require.NoError(t, err, "the other rows go on")
	require.Equal(t, "step, int8 lm_head", r.Work)
	require.Contains(t, r.Error, hip.ErrOutOfMemory.Error())

	var out strings.Builder
	require.NoError(t, (&summary{Rows: []row{{Work: "step"}, r}}).print(&out, false))
	require.Contains(t, out.String(), r.Error)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.measureCheap(ctx, w)
	require.ErrorIs(t, err, context.Canceled)
}

func TestCheapMemoryIsCheckedFirst(t *testing.T) {
	d := drafting{format: weights.INT8}
	size := d.requantizedBytes(&mtp.Config{VocabSize: 200_064, HiddenSize: 6144})
	require.EqualValues(t, 200_064*6144/32*34, size)
	d.tokens = 32_768
	require.EqualValues(t, 32_768*6144/32*34, d.requantizedBytes(&mtp.Config{VocabSize: 200_064, HiddenSize: 6144}))
	require.Zero(t, (&drafting{tokens: 9}).requantizedBytes(&mtp.Config{}))

	free := func() (int64, error) { return size, nil }
	require.ErrorIs(t, checkRequantized(size, false, free), errMemory)
	require.NoError(t, checkRequantized(size, true, free), "a GPU says so itself")
	require.NoError(t, checkRequantized(0, false, free))
	require.NoError(t, checkRequantized(size, false, func() (int64, error) { return size + otherMemory, nil }))
	require.NoError(t, checkRequantized(size, false, func() (int64, error) { return 0, errors.ErrUnsupported }))
}
