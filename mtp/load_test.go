package mtp_test

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

const embedName, lmHeadName = "model.embed_tokens.weight", "lm_head.weight"

// draftsOf loads a checkpoint on a device of its own and drafts two rounds.
func draftsOf(t testing.TB, fsys fs.FS, opts mtp.Options) [2]drafted {
	t.Helper()
	const n = 15
	head, x := load(t, fsys, opts), randomPassage(300, n)
	s := newCache(t, head, 6).NewSequence()
	return [2]drafted{draft(t, head, x.batch(s, 0, n-4), 3), draft(t, head, x.batch(s, n-4, n), 3)}
}

// TestLayoutsAgree: the same weights bundled or standalone, mapped or read, on
// one thread or several, give the same bits.
func TestLayoutsAgree(t *testing.T) {
	for _, format := range []string{"F32", "BF16", "MXFP8"} {
		layout := synthetic{format: format, modules: 3}
		want := draftsOf(t, layout.files(t), mtp.Options{})
		require.Equal(t, want, draftsOf(t, os.DirFS(layout.folder(t)), mtp.Options{}), "mapped")
		layout.bundled = true
		require.Equal(t, want, draftsOf(t, layout.files(t), mtp.Options{}), "bundled")
		host := func(threads int) mtp.Options {
			return mtp.Options{Device: openDevice(t, hip.NewHost(threads))}
		}
		require.Equal(t, draftsOf(t, layout.files(t), host(1)), draftsOf(t, os.DirFS(layout.folder(t)), host(4)), "host, threads")
	}
}

// matrixOf puts a shared tensor on a device as an engine would hold it.
func matrixOf(t testing.TB, d hip.Device, layout synthetic, name string) *weights.Matrix {
	t.Helper()
	p := upload(t, d, stored(t, layout.files(t), name))
	m, err := weights.NewMatrix(d, hiddenSize, []weights.Segment{weights.DenseSegment(weights.F32, vocabSize, hiddenSize, p, 0)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Free(d)) })
	return m
}

// TestSuppliedMatrices: embed_tokens and lm_head of the target in place of the
// checkpoint's, which may hold them or not.
func TestSuppliedMatrices(t *testing.T) {
	whole := synthetic{modules: 3}
	want := draftsOf(t, whole.files(t), mtp.Options{})
	for name, c := range map[string]struct {
		omit                []string
		embed, lmHead, tied bool
	}{
		"both, neither stored": {omit: []string{embedName, lmHeadName}, embed: true, lmHead: true},
		"both, both stored":    {embed: true, lmHead: true},
		"embed_tokens":         {omit: []string{embedName}, embed: true},
		"lm_head":              {omit: []string{lmHeadName}, lmHead: true},
		"lm_head though tied":  {omit: []string{lmHeadName}, lmHead: true, tied: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := openDevice(t, hip.NewReference())
			layout, opts := synthetic{modules: 3, omit: c.omit}, mtp.Options{Device: d}
			if c.tied {
				layout.config = []edit{set("tie_word_embeddings", "true")}
			}
			if c.embed {
				opts.Embed = matrixOf(t, d, whole, embedName)
			}
			if c.lmHead {
				opts.LMHead = matrixOf(t, d, whole, lmHeadName)
			}
			require.Equal(t, want, draftsOf(t, layout.files(t), opts))
		})
	}
}

func TestSuppliedMatricesRefused(t *testing.T) {
	files := synthetic{}.files(t)
	d := openDevice(t, hip.NewReference())
	small, err := weights.NewMatrix(d, hiddenSize, []weights.Segment{weights.DenseSegment(weights.F32, 3, hiddenSize, upload(t, d, make([]float32, 3*hiddenSize)), 0)})
	require.NoError(t, err)
	defer small.Free(d)
	for name, c := range map[string]struct {
		opts   mtp.Options
		fields []string
	}{
		"too few rows":     {mtp.Options{Device: d, Embed: small, LMHead: small}, []string{"Options.Embed", "Options.LMHead"}},
		"without a device": {mtp.Options{LMHead: small}, []string{"Options.LMHead", "Options.Device"}},
		"all options": {
			mtp.Options{Chain: "chain_guess", MaxDraft: 65, CacheFormat: 7},
			[]string{"Options.Chain", "Options.MaxDraft", "Options.CacheFormat"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := mtp.LoadFS(t.Context(), files, c.opts)
			require.ErrorIs(t, err, mtp.ErrInput)
			for _, field := range c.fields {
				require.ErrorContains(t, err, field, "all problems together")
			}
			_, _, inspectErr := mtp.InspectFS(files, c.opts)
			require.EqualError(t, inspectErr, err.Error())
		})
	}
}

func TestTiedEmbeddings(t *testing.T) {
	want := draftsOf(t, synthetic{tiedCopy: true}.files(t), mtp.Options{})
	tied := synthetic{config: []edit{set("tie_word_embeddings", "true")}, omit: []string{lmHeadName}}
	require.Equal(t, want, draftsOf(t, tied.files(t), mtp.Options{}))
	require.NotEqual(t, want, draftsOf(t, synthetic{}.files(t), mtp.Options{}))
}

func TestKVScales(t *testing.T) {
	const attn = "model.mtp.layers.1.transformer_layer.self_attn."
	for name, c := range map[string]struct {
		stored map[string]float32
		k, v   float32
	}{
		"none":             {nil, 1, 1},
		"of k and v":       {map[string]float32{attn + "k_proj.k_scale": 0.5, attn + "v_proj.v_scale": 0.25}, 0.5, 0.25},
		"one for both":     {map[string]float32{attn + "kv_scale": 3}, 3, 3},
		"of k alone":       {map[string]float32{attn + "k_proj.k_scale": 3}, 3, 3},
		"of v alone":       {map[string]float32{attn + "v_proj.v_scale": 3}, 1, 3},
		"of the attention": {map[string]float32{attn + "k_scale": 2, attn + "v_scale": 4}, 2, 4},
	} {
		t.Run(name, func(t *testing.T) {
			layout := synthetic{modules: 2, kvScales: c.stored, bundled: true}
			head := load(t, layout.files(t), mtp.Options{})
			k, v := head.KVScales(1)
			require.Equal(t, []float32{c.k, c.v}, []float32{k, v})
			k, v = head.KVScales(0)
			require.Equal(t, []float32{1, 1}, []float32{k, v}, "the other module")
		})
	}
}

// TestLoadCanceled: a context that ends before or during a load leaves nothing.
func TestLoadCanceled(t *testing.T) {
	files := synthetic{modules: 3}.files(t)
	for _, calls := range []int{0, 1, 2, 40} {
		d := hip.NewReference()
		ctx, cancel := context.WithCancel(t.Context())
		if calls == 0 {
			cancel()
		}
		n := 0
		head, err := mtp.LoadFS(ctx, files, mtp.Options{Device: d, Progress: func(_, _ int64) {
			if n++; n == calls {
				cancel()
			}
		}})
		require.ErrorIs(t, err, context.Canceled, "after %d calls of Progress", calls)
		require.Nil(t, head)
		require.Equal(t, calls, n, "nothing moves after the end")
		requireEmpty(t, d)
		require.NoError(t, d.Close())
		cancel()
	}
}

func TestLoadTells(t *testing.T) {
	var log bytes.Buffer
	var done, total int64
	head := load(t, synthetic{modules: 3, bundled: true}.files(t), mtp.Options{
		Logger:   slog.New(slog.NewTextHandler(&log, nil)),
		Progress: func(d, of int64) { require.GreaterOrEqual(t, d, done); done, total = d, of },
	})
	require.Equal(t, head.Report().Bytes, total)
	require.Equal(t, total, done)
	require.Equal(t, 1, strings.Count(log.String(), "\n"))
	require.Contains(t, log.String(), "modules=3")
	require.Equal(t, 3, head.Config().NumMTPModules)
}

// TestNothingIsLeft: after Close, and after loads that fail late, no goroutine
// and no mapping of the checkpoint is left.
func TestNothingIsLeft(t *testing.T) {
	dir, bad := synthetic{modules: 3, format: "MXFP8"}.folder(t), synthetic{modules: 3, omit: []string{lmHeadName}}.folder(t)
	before := goroutines()
	for range 3 {
		head, err := mtp.Load(t.Context(), dir, mtp.Options{})
		require.NoError(t, err)
		if runtime.GOOS == "linux" {
			require.Positive(t, mappedBelow(t, dir), "weights are used in place")
		}
		draft(t, head, randomPassage(301, 9).batch(newCache(t, head, 4).NewSequence(), 0, 9), 3)
		_, err = mtp.Load(t.Context(), bad, mtp.Options{})
		require.ErrorContains(t, err, lmHeadName)
		ctx, cancel := context.WithCancel(t.Context())
		_, err = mtp.Load(ctx, dir, mtp.Options{Progress: func(_, _ int64) { cancel() }})
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, head.Close())
		require.ErrorIs(t, head.Close(), mtp.ErrClosed)
		require.Zero(t, mappedBelow(t, dir)+mappedBelow(t, bad))
		requireGoroutines(t, before)
	}
}

// goroutines counts the goroutines of this process, without the clock of
// regexp2's timeouts, which ends by itself some time after the last match.
func goroutines() int {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return 1 + bytes.Count(stacks, []byte("\n\ngoroutine ")) - bytes.Count(stacks, []byte("regexp2.runClock()"))
}

// requireGoroutines checks that no more goroutines are left. A worker that has said that it
// ends may still be there.
func requireGoroutines(t testing.TB, most int) {
	t.Helper()
	for wait := time.Now().Add(10 * time.Second); goroutines() > most && time.Now().Before(wait); {
		runtime.Gosched()
	}
	require.LessOrEqual(t, goroutines(), most, "goroutines left")
}

// TestCloseLeavesTheDevice: a device that was given is the caller's, with what
// the caller has there.
func TestCloseLeavesTheDevice(t *testing.T) {
	d := openDevice(t, hip.NewHost(2))
	p := upload(t, d, []float32{1, 2, 3})
	head := load(t, os.DirFS(synthetic{}.folder(t)), mtp.Options{Device: d})
	cache := newCache(t, head, 3)
	draft(t, head, randomPassage(302, 9).batch(cache.NewSequence(), 0, 9), 3)
	require.Same(t, d, head.Device())
	require.NoError(t, head.Close())
	_, live := hiptest.InUse(d)
	require.Equal(t, 1, live)
	got := make([]float32, 3)
	require.NoError(t, hip.ReadOf(d, got, p))
	require.Equal(t, []float32{1, 2, 3}, got)
}
