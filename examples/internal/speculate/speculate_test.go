package speculate

import (
	"cmp"
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/target"
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// More than in every run of the tests:
//
//	go test -run 'TextsAreTheTargets$' -prompts 1000 -bytes 128
//	go test -run TextsAreTheTargetsOn -prompts 1000 -bytes 8 -timeout 0
var (
	promptsFlag = flag.Int("prompts", 0, "prompts to write after on each kind of device; 0: few")
	bytesFlag   = flag.Int("bytes", 0, "bytes to write after each; 0: few")
)

// amount returns the flags, or what a run of all tests does.
func amount(prompts, bytes int) (int, int) {
	return cmp.Or(*promptsFlag, prompts), cmp.Or(*bytesFlag, bytes)
}

// prompts are pieces of the texts that the built-in traces begin with, which the model was
// not trained on.
func prompts(t *testing.T, n int) (all [][]int32) {
	t.Helper()
	traces, err := m3tiny.Traces()
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(1, 2))
	for len(all) < n {
		text := traces[len(all)%len(traces)]
		length := 1 + r.IntN(100)
		from := r.IntN(text.PromptLen - length)
		all = append(all, text.Tokens[from:from+length])
	}
	return all
}

// open returns an engine with caches of so many pages; the test closes it.
func open(t *testing.T, d hip.Device, pages int) *Engine {
	t.Helper()
	return openChain(t, d, pages, "")
}

func openChain(t *testing.T, d hip.Device, pages int, chain mtp.Chain) *Engine {
	t.Helper()
	head, err := mtp.LoadFS(t.Context(), m3tiny.Checkpoint(), mtp.Options{Device: d, CacheFormat: attention.CacheF32, Chain: chain, MaxDraft: 8})
	require.NoError(t, err)
	model, err := target.Load(t.Context(), m3tiny.Checkpoint(), head, pages, attention.CacheF32, nil)
	require.NoError(t, err)
	cache, err := head.NewCache(pages)
	require.NoError(t, err)
	e := &Engine{Target: model, Head: head, Cache: cache}
	t.Cleanup(func() {
		require.NoError(t, e.Close())
		require.NoError(t, model.Close())
		require.NoError(t, head.Close())
		_, live := hiptest.InUse(d)
		require.Zero(t, live)
		require.NoError(t, d.Close())
	})
	return e
}

// write completes texts and returns what was written after each prompt.
func write(t *testing.T, e *Engine, texts ...*Text) (written [][]int32) {
	t.Helper()
	prompts := make([]int, len(texts))
	for i, text := range texts {
		prompts[i] = len(text.Tokens)
	}
	for slices.ContainsFunc(texts, func(t *Text) bool { return !t.Done() }) {
		require.NoError(t, e.Step(t.Context(), texts))
	}
	for i, text := range texts {
		require.NoError(t, text.Err)
		require.Len(t, text.Tokens, text.Most)
		require.Len(t, text.Accepted, text.Most-prompts[i])
		written = append(written, text.Tokens[prompts[i]:])
		require.NoError(t, e.Release(text))
	}
	require.Equal(t, e.Target.Cache.Pages(), e.Target.Cache.FreePages())
	require.Equal(t, e.Cache.Pages(), e.Cache.FreePages())
	return written
}

// checkTexts writes after prompts with drafts of every length, in batches of every size, and
// compares with what the target writes alone, text by text.
func checkTexts(t *testing.T, e *Engine, prompts [][]int32, n int) {
	t.Helper()
	want := make([][]int32, len(prompts))
	for i, p := range prompts {
		alone := &Text{Tokens: slices.Clone(p), Most: len(p) + n}
		want[i] = write(t, e, alone)[0]
		require.Equal(t, n, alone.Passes, "a token a pass")
	}
	r := rand.New(rand.NewPCG(3, 4))
	var passes, drafted, accepted int
	for from := 0; from < len(prompts); {
		to := min(len(prompts), from+1+r.IntN(8))
		e.Chunk = 1 + r.IntN(60)
		if e.Controller = nil; r.IntN(4) == 0 {
			e.Controller = mtp.NewController(8)
		}
		var texts []*Text
		for _, p := range prompts[from:to] {
			texts = append(texts, &Text{Tokens: slices.Clone(p), Most: len(p) + n, Drafts: r.IntN(9)})
		}
		for i, got := range write(t, e, texts...) {
			text := texts[i]
			require.Equal(t, want[from+i], got, "prompt %d, %d drafts", from+i, text.Drafts)
			accepts := 0
			for j := range text.DraftedAt {
				drafted, accepts = drafted+text.DraftedAt[j], accepts+text.AcceptedAt[j]
			}
			require.Equal(t, n, accepts+text.Passes, "a pass gives its accepted drafts and a token more")
			passes, accepted = passes+text.Passes, accepted+accepts
		}
		from = to
	}
	t.Logf("%d prompts, %d bytes each: %d passes, %d of %d drafts accepted", len(prompts), n, passes, accepted, drafted)
	require.Greater(t, float64(accepted), 0.3*float64(drafted))
}

func TestTextsAreTheTargets(t *testing.T) {
	n, bytes := amount(24, 40)
	checkTexts(t, open(t, hip.NewHost(), 128), prompts(t, n), bytes)
}

func TestTextsAreTheTargetsOnTheReference(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("one goroutine over plain twins has no races to find")
	}
	n, bytes := amount(5, 12)
	checkTexts(t, open(t, hip.NewReference(), 64), prompts(t, n), bytes)
}

func TestTextsAreTheTargetsOnEmulations(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	hiptest.OnEmulations(t, func(t *testing.T, i, n int, d hip.Device) {
		const apart = 4 // one emulation in so many does the work, of either vendor
		if i%apart != 0 {
			return
		}
		all, bytes := amount(6, 8)
		used := (n + apart - 1) / apart
		var share [][]int32
		for j, p := range prompts(t, all) {
			if j%used == i/apart {
				share = append(share, p)
			}
		}
		checkTexts(t, open(t, shared{d}, 64), share, bytes)
	})
}

// shared is a device that its owner closes.
type shared struct{ hip.Device }

func (d shared) Unwrap() hip.Device { return d.Device }
func (shared) Close() error         { return nil }

// TestSampledTexts: a text depends on its seed alone, not on its batch, and drawn drafts
// are accepted.
func TestSampledTexts(t *testing.T) {
	e := open(t, hip.NewHost(), 64)
	text := func(i int) *Text {
		p := prompts(t, 6)[i]
		return &Text{Tokens: slices.Clone(p), Most: len(p) + 24, Drafts: 1 + i, Sampling: mtp.Sampling{Temperature: 0.8, TopP: 0.95, Seed: uint64(i)}}
	}
	var texts []*Text
	for i := range 6 {
		texts = append(texts, text(i))
	}
	for i, together := range write(t, e, texts...) {
		require.Equal(t, write(t, e, text(i))[0], together, "text %d", i)
		require.Contains(t, texts[i].Accepted, true)
	}
	other := text(3)
	other.Sampling.Seed = 99
	require.NotEqual(t, texts[3].Tokens, slices.Concat(prompts(t, 6)[3], write(t, e, other)[0]))
}

// TestRepeatable: a repeatable text is what its target draws alone, for any number of
// drafts, in any batch and after a preemption.
func TestRepeatable(t *testing.T) {
	e := open(t, hip.NewHost(), 64)
	p := prompts(t, 4)
	text := func(i, drafts int) *Text {
		return &Text{Tokens: slices.Clone(p[i]), Most: len(p[i]) + 24, Drafts: drafts, Repeatable: true, Sampling: mtp.Sampling{Temperature: 0.9, TopP: 0.95, Seed: 5, Stream: uint64(i)}}
	}
	var want [][]int32
	for i := range p {
		want = append(want, write(t, e, text(i, 0))[0])
	}
	for drafts := range 7 {
		e.Chunk = 1 + 9*drafts
		texts := []*Text{text(0, drafts), text(1, 6-drafts), text(2, drafts), text(3, 1)}
		for range 3 * drafts {
			require.NoError(t, e.Step(t.Context(), texts))
		}
		require.NoError(t, e.Release(texts[2]))
		for i := range texts {
			complete(t, e, texts[i:]...)
			require.Equal(t, want[i], texts[i].Tokens[len(p[i]):], "text %d, %d drafts", i, drafts)
			require.NoError(t, e.Release(texts[i]))
		}
		if drafts > 1 {
			require.Contains(t, texts[0].Accepted, true)
		}
	}
}

// TestPreemption: a text that was released goes on where it was, and a full cache changes
// nothing.
func TestPreemption(t *testing.T) {
	e := open(t, hip.NewHost(), 9)
	p := prompts(t, 3)
	text := func(i int) *Text { return &Text{Tokens: slices.Clone(p[i]), Most: 120, Drafts: 4} }
	want := [][]int32{write(t, e, text(0))[0], write(t, e, text(1))[0], write(t, e, text(2))[0]}
	texts := []*Text{text(0), text(1), text(2)}
	full := 0
	for slices.ContainsFunc(texts, func(t *Text) bool { return !t.Done() }) {
		running := slices.DeleteFunc(slices.Clone(texts), (*Text).Done)
		for {
			err := e.Step(t.Context(), running)
			if err == nil {
				break
			}
			require.ErrorIs(t, err, attention.ErrCacheFull)
			full++
			last := len(running) - 1
			require.NoError(t, e.Release(running[last]))
			running = running[:last]
		}
		for _, text := range texts {
			if text.Done() {
				require.NoError(t, e.Release(text))
			}
		}
	}
	require.Positive(t, full)
	for i, text := range texts {
		require.Equal(t, want[i], text.Tokens[len(p[i]):], "text %d", i)
	}
}

// TestStepFails: an interrupted step changes no text, and can be tried again.
func TestStepFails(t *testing.T) {
	e := open(t, hip.NewHost(), 16)
	p := prompts(t, 1)[0]
	text := func() *Text { return &Text{Tokens: slices.Clone(p), Most: len(p) + 20, Drafts: 3} }
	want := write(t, e, text())[0]
	got := text()
	for i := 0; !got.Done(); i++ {
		if i%2 == 0 {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			before := slices.Clone(got.Tokens)
			require.ErrorIs(t, e.Step(ctx, []*Text{got}), context.Canceled)
			require.Equal(t, before, got.Tokens)
		}
		require.NoError(t, e.Step(t.Context(), []*Text{got}))
	}
	require.Equal(t, want, got.Tokens[len(p):])
	require.NoError(t, e.Release(got))
}

// TestLastPosition: chains get shorter before the last position.
func TestLastPosition(t *testing.T) {
	e := open(t, hip.NewHost(), 64)
	e.Target.Config.Attention.Rope.Positions = 40 // as the engine sees it
	p := prompts(t, 9)[1]
	for len(p) < 30 {
		p = append(slices.Clone(p), p...)
	}
	text := &Text{Tokens: slices.Clone(p[:30]), Most: 41, Drafts: 8}
	want := write(t, e, &Text{Tokens: slices.Clone(p[:30]), Most: 41})[0]
	require.Equal(t, want, write(t, e, text)[0])
	require.NoError(t, e.Step(t.Context(), nil), "nothing to do")
}
