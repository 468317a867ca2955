package main

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/ranks"
	"github.com/drafthead/drafthead/examples/internal/synthetic"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// released is the model of the released head, without its memory.
func released(t *testing.T) *model {
	t.Helper()
	c, err := synthetic.New(synthetic.M3(), synthetic.Options{})
	require.NoError(t, err)
	config, _, err := mtp.InspectFS(c.FS(), mtp.Options{})
	require.NoError(t, err)
	params, err := config.Parameters(mtp.Shard{}, mtp.Shard{})
	require.NoError(t, err)
	d := hip.NewReference()
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	m, err := newModel(config, func(name string) *weights.Matrix {
		for i := range params {
			if p := &params[i]; p.Name == name {
				format := weights.MXFP8
				switch {
				case !strings.Contains(name, ".layers."):
					format = weights.BF16
				case strings.HasSuffix(name, ".gate.weight"):
					format = weights.F32
				}
				var segments []weights.Segment
				for _, part := range p.Parts { // nothing reads at these addresses
					segments = append(segments, weights.DenseSegment(format, part.Shape[0], part.Shape[1], 1, 1))
				}
				w, err := weights.NewMatrix(d, p.Parts[0].Shape[1], segments)
				require.NoError(t, err)
				return w
			}
		}
		return nil
	}, ranks.Only(nil), attention.CacheBF16)
	require.NoError(t, err)
	return m
}

// TestBytesOfAStep compares with the sizes of the released head, from its shapes.
func TestBytesOfAStep(t *testing.T) {
	m := released(t)
	const h, i, v, e = 6144, 3072, 200_064, 128
	mxfp8 := func(rows, cols int64) int64 { return rows*cols + rows*cols/32 }
	eh, attn := mxfp8(h, 2*h), mxfp8((64+4+4)*128+5*128, h)+mxfp8(h, 64*128)
	expert := 2*mxfp8(i, h) + mxfp8(h, i)
	const router, embedRow, lmHead = e * h * 4, h * 2, v * h * 2

	step := pass{rows: 1, picked: 4}
	require.Equal(t, eh+attn+5*expert+router+embedRow, m.bytes(step))
	require.InDelta(t, 0.484, float64(m.bytes(step)-router-embedRow)/1e9, 0.0005, "layer weights of a step, in GB")

	sampled := step
	sampled.sampled = 1
	require.EqualValues(t, lmHead, m.bytes(sampled)-m.bytes(step))
	require.InDelta(t, 2.458, float64(lmHead)/1e9, 0.0005)
	sampled.sampled = 7
	require.EqualValues(t, lmHead, m.bytes(sampled)-m.bytes(step), "lm_head is read once for all rows")

	more := step
	more.picked, more.rows = 9, 3
	require.EqualValues(t, 5*expert+2*embedRow, m.bytes(more)-m.bytes(step))

	// 2 048 bytes of K and V and 256 of index key per token.
	after := step
	after.keys, after.indexKeys = 4*2048, 65_537
	require.EqualValues(t, 2048*2048+65_537*256, m.bytes(after)-m.bytes(step))
}

func TestFlopsOfAStep(t *testing.T) {
	m := released(t)
	const h, i, v, e = 6144.0, 3072.0, 200_064.0, 128.0
	row := h*2*h + 9856*h + h*8192 + e*h + 5*3*i*h
	require.Equal(t, 2*row, m.flops(pass{rows: 1, picked: 4}))
	require.Equal(t, 2*(row*3+v*h*2), m.flops(pass{rows: 3, picked: 7, sampled: 2}), "what a row computes does not depend on the others")
}

func TestModelNamesWhatIsMissing(t *testing.T) {
	_, err := newModel(&mtp.Config{}, func(string) *weights.Matrix { return nil }, ranks.Only(nil), 0)
	require.ErrorContains(t, err, "model.embed_tokens.weight")
}

// TestWatcherCountsTheCache has 2 KV heads that select up to 2 blocks of 4 keys.
func TestWatcherCountsTheCache(t *testing.T) {
	m := &model{experts: 8, kvHeads: 2, topk: 2, block: 4}
	w := watcher{model: m, drafts: true, spans: []span{{9, 11}, {5, 6}}}
	w.observe(mtp.Stage{Name: "selected_blocks", Shape: []int{3, 2, 2}, Int32: []int32{
		0, 2, 1, 2, // position 9: head 0, head 1
		0, 2, 0, 2, // position 10
		0, 1, 1, -1, // position 5 of the other sequence
	}})
	w.observe(mtp.Stage{Name: "expert_ids", Shape: []int{3, 2}, Int32: []int32{5, 1, 5, 7, 1, 5}})
	w.observe(mtp.Stage{Name: "hidden"})
	// Sequence 0 ends at 11: blocks 0, 2 by head 0 have 4 + 3 keys, 0, 1, 2 by head 1
	// 4 + 4 + 3; sequence 1 ends at 6: 4 + 2 and 2. It has no more than 2 blocks to
	// choose from, so that only sequence 0 needs index keys.
	require.Equal(t, []pass{{rows: 3, picked: 3, keys: 7 + 11 + 6 + 2, indexKeys: 11, sampled: 2}}, w.passes)
	require.Equal(t, []span{{11, 12}, {6, 7}}, w.spans, "the next pass has one row each")
}

// TestTrafficIsThatOfTheCall counts what a chain of small size reads.
func TestTrafficIsThatOfTheCall(t *testing.T) {
	s, err := parse([]string{"-k", "3", "-batch", "2", "-commit", "6", "-prefill", "5", "-context", "40", "-cheap=false"}, &strings.Builder{})
	require.NoError(t, err)
	device := hip.NewHost()
	source, err := s.open(t.Context(), &strings.Builder{})
	require.NoError(t, err)
	b := &session{settings: s, rank: ranks.Only(device), source: source, stderr: &strings.Builder{}, device: device, out: &summary{}}
	defer func() { require.NoError(t, errors.Join(b.close(), source.close(), device.Close())) }()
	require.NoError(t, b.load(t.Context()))
	require.NoError(t, b.prepare(t.Context()))
	for _, w := range b.works {
		got, err := w.traffic(context.Background(), b.head, b.model, w.inputs[1])
		require.NoError(t, err)
		passes := max(w.k, 1)
		low, high := int64(0), int64(0)
		for i := range passes {
			rows, keys := w.rows, int64(0)
			if w.commits { // only the embeddings of those before the last
				rows = 1
				written := b.model.embed.Bytes() / int64(b.model.embed.Rows) * int64(w.rows-1)
				low, high = low+written, high+written
			}
			for _, n := range w.lengths { // at most 2 of 4 blocks: all are selected
				keys += int64(2 * (w.context + n + i))
			}
			p := pass{rows: rows, picked: 2, keys: keys}
			if w.k > 0 {
				p.sampled = len(w.lengths)
			}
			low += b.model.bytes(p)
			p.picked = min(8, 2*rows)
			high += b.model.bytes(p)
		}
		require.True(t, got.bytes >= low && got.bytes <= high, "%s: %d bytes, want %d to %d", w.name, got.bytes, low, high)
		if w.rows == 1 {
			require.Equal(t, low, got.bytes)
		}
	}
}

func TestStatistics(t *testing.T) {
	require.Equal(t, 3.0, median([]float64{9, 1, 3}))
	require.Equal(t, 2.5, median([]float64{4, 1, 3, 2}))
	require.Equal(t, 7.0, median([]float64{7}))
	require.Equal(t, 0.0, spread([]float64{7, 7, 7}))
	values := []float64{10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 0}
	require.Equal(t, 50.0, median(values))
	require.InDelta(t, (90.0-10.0)/50, spread(values), 1e-12)
	require.Equal(t, 2.0, mean([]float64{1, 3}))
	require.True(t, math.IsNaN(median(nil)))
	require.Equal(t, []float64{9, 1, 3}, func() []float64 { v := []float64{9, 1, 3}; median(v); return v }(), "values stay in order")
}

func TestRow(t *testing.T) {
	w := &work{name: "chain", rows: 1, context: 5, k: 2}
	runs := []timedRun{{0, 1, 10e9}, {1, 2, 20e9}, {0, 4, 10e9}}
	got := newRow(w, runs, []traffic{{4e9, 8e9, 6}, {10e9, 8e9, 8}})
	// GB/s 4, 5, 1; ratios 0.4, 0.25, 0.1; GFLOP/s 8, 4, 2.
	want := row{
		Work: "chain", Rows: 1, Context: 5, K: 2, Runs: 3, Bytes: 4e9, Seconds: 2, Spread: (3.6 - 1.2) / 2,
		GBps: 4, Ratio: 0.25, GFlops: 4, Ceiling: 10, Experts: (3 + 4 + 3) / 3.0,
	}
	require.InDelta(t, want.Spread, got.Spread, 1e-12)
	got.Spread = want.Spread
	require.Equal(t, want, got)
}

func TestMemoryIsCheckedFirst(t *testing.T) {
	available := func(n int64) func() (int64, error) { return func() (int64, error) { return n, nil } }
	require.NoError(t, checkMemory(5e9, 2e9, 8, available(7e9+otherMemory)))
	err := checkMemory(5e9, 2e9, 8, available(7e9+otherMemory-1))
	require.ErrorIs(t, err, errMemory)
	for _, text := range []string{"8 experts", cli.FormatBytes(5e9), "fewer -experts"} {
		require.ErrorContains(t, err, text)
	}
	broken := errors.New("broken")
	require.ErrorIs(t, checkMemory(1, 1, 1, func() (int64, error) { return 0, broken }), broken)
	require.NoError(t, checkMemory(5e9, 2e9, 8, func() (int64, error) { return 0, errors.ErrUnsupported }))
}

func TestLongCache(t *testing.T) {
	s := &settings{config: synthetic.M3(), contexts: []int{8, 524_288}}
	require.EqualValues(t, 524_288*(2048+256), s.longCache())
	for format, want := range map[attention.CacheFormat]int64{attention.CacheF32: 2 * (2048 + 256), attention.CacheFP8: 1024 + 256, attention.CacheFP8Index: 1024 + 128} {
		s.cache = format
		require.EqualValues(t, 524_288*want, s.longCache())
	}
	s.cache = attention.CacheBF16
	s.config.MaxPositionEmbeddings = 1000
	require.EqualValues(t, 1000*(2048+256), s.longCache())
}

func TestMemoryOfThisProcess(t *testing.T) {
	use, err := readMemoryUse()
	require.NoError(t, err)
	if use.peak == 0 {
		t.Skip("this operating system does not tell the memory of a process")
	}
	require.Greater(t, use.peak, int64(1<<20))
	require.Greater(t, use.anonymous, int64(1<<20))
	available, err := availableMemory()
	require.NoError(t, err)
	require.Positive(t, available)
}

// TestStoredValues: the cache of a bench is filled in its format.
func TestStoredValues(t *testing.T) {
	values := []byte{0x80, 0x3f, 0x00, 0xc0} // 1 and −2
	require.Equal(t, values, appendStored(nil, values, 2))
	require.Equal(t, []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0}, appendStored(nil, values, 4))
	require.Equal(t, []byte{0x38, 0xc0}, appendStored(nil, values, 1))
}
