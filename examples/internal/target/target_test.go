package target

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// golden is a file of the target's outputs, computed in float64.
type golden struct {
	*safetensors.File
	tokens []int32
	rows   []int // those whose intermediate values are recorded
}

func openGolden(t *testing.T, name string) *golden {
	t.Helper()
	file, err := safetensors.Open(os.DirFS(hiptest.Shared(t, "m3-tiny", "target")), name)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	g := &golden{File: file}
	for _, token := range values[int64](t, file, "tokens") {
		g.tokens = append(g.tokens, int32(token))
	}
	for _, row := range values[int64](t, file, "rows") {
		g.rows = append(g.rows, int(row))
	}
	return g
}

func values[T int64 | int32 | float32](t *testing.T, file *safetensors.File, name string) []T {
	t.Helper()
	tensor, ok := file.Tensor(name)
	require.True(t, ok, name)
	data := make([]byte, tensor.Size())
	_, err := tensor.ReadAt(data, 0)
	require.NoError(t, err)
	out := make([]T, len(data)/binary.Size(T(0)))
	require.NoError(t, binary.Read(bytes.NewReader(data), binary.LittleEndian, out))
	return out
}

// take returns columns from … of the golden rows of x, which has a row of n values for
// each token.
func (g *golden) take(x []float32, n, from, columns int) (out []float32) {
	for _, row := range g.rows {
		out = append(out, x[row*n+from:][:columns]...)
	}
	return out
}

func read[T any](t *testing.T, d hip.Device, p hip.Ptr, n int) []T {
	t.Helper()
	require.NotZero(t, p)
	out := make([]T, n)
	require.NoError(t, hip.ReadOf(d, out, p))
	return out
}

// load returns the target of a folder, which the test closes, and with it its head.
func load(t *testing.T, d hip.Device, folder fs.FS, pages int) (m *Target, closeAll func()) {
	t.Helper()
	head, err := mtp.LoadFS(t.Context(), folder, mtp.Options{Device: d})
	require.NoError(t, err)
	m, err = Load(t.Context(), folder, head, pages, attention.CacheF32, nil)
	require.NoError(t, err)
	return m, func() {
		require.NoError(t, m.Close())
		require.NoError(t, head.Close())
		_, live := hiptest.InUse(d)
		require.Zero(t, live)
	}
}

func folderOf(t *testing.T, format string) fs.FS {
	return os.DirFS(hiptest.Shared(t, "m3-tiny", "bundled-"+format))
}

// compareLayers runs the prompt of a file in one pass and compares every stage of every
// layer, each to the bound times its own largest magnitude.
func compareLayers(t *testing.T, m *Target, file string, bound float64) {
	g, d, n := openGolden(t, file), m.device, 0
	rows := len(g.tokens)
	require.NoError(t, m.moe.Reserve(d, &m.Config.MLP[0], rows, true))
	defer func() { m.observe = nil }()
	m.observe = func(layer int, stage string, at hip.Ptr, p pass) {
		h, a := m.Config.HiddenSize, &m.Config.Attention
		within := func(name string, at hip.Ptr, width, from, columns int) {
			name = fmt.Sprintf("l%d.%s", layer, name)
			got := g.take(read[float32](t, d, at, rows*width), width, from, columns)
			require.NoError(t, hiptest.Within(got, values[float32](t, g.File, name), bound), name)
			n++
		}
		switch stage {
		case "projected":
		case "qkv":
			q, kv := a.Heads*a.HeadDim, a.KVHeads*a.HeadDim
			within("q", at, a.Columns(), 0, q)
			within("k", at, a.Columns(), q, kv)
			within("v", at, a.Columns(), q+kv, kv)
		case "mlp_norm_out":
			within(stage, at, h, 0, h)
			within("post_attn_residual", p.x, h, 0, h)
		case "hidden":
			within(stage, at, h, 0, h)
			within("shared_out", m.moe.Stage("shared_out"), h, 0, h)
			within("mlp_out", m.moe.Stage("moe_out"), h, 0, h)
			if mlp := &m.Config.MLP[layer]; mlp.Experts > 0 {
				within("moe_routed_out", m.moe.Stage("moe_routed_out"), h, 0, h)
				within("router_scores", m.moe.Stage("router_scores"), mlp.Experts, 0, mlp.Experts)
				within("expert_weights", m.moe.Stage("expert_weights"), mlp.TopK, 0, mlp.TopK)
				g.compareExperts(t, layer, read[int32](t, d, m.moe.Stage("expert_ids"), rows*mlp.TopK))
			}
		default:
			within(stage, at, h, 0, h) // Heads · HeadDim is HiddenSize
		}
	}
	seq := m.Cache.NewSequence()
	defer seq.Close()
	pHidden, pLogits, err := m.Run(t.Context(), []Rows{{Sequence: seq, Tokens: g.tokens, Logits: rows}})
	require.NoError(t, err)
	require.Equal(t, 4*11+3*3, n, "stages")
	require.NoError(t, hiptest.Within(read[float32](t, d, pHidden, rows*m.Config.HiddenSize), values[float32](t, g.File, "hidden"), bound), "hidden")
	logits := read[float32](t, d, pLogits, rows*m.Config.VocabSize)
	require.NoError(t, hiptest.Within(logits[(rows-4)*m.Config.VocabSize:], values[float32](t, g.File, "logits"), bound), "logits")
	next, margin := values[int64](t, g.File, "next"), values[float32](t, g.File, "margin")
	for i := range rows {
		if got := argmax(logits[i*m.Config.VocabSize:][:m.Config.VocabSize]); int64(got) != next[i] {
			require.Less(t, margin[i], float32(1e-3), "next token at position %d is %d, want %d", i, got, next[i])
		}
	}
}

// compareExperts compares the picked experts of all positions.
func (g *golden) compareExperts(t *testing.T, layer int, got []int32) {
	want := values[int32](t, g.File, fmt.Sprintf("l%d.expert_ids", layer))
	margin := values[float32](t, g.File, fmt.Sprintf("l%d.router_margin", layer))
	for i := range want {
		if got[i] != want[i] {
			require.Less(t, margin[i/2], float32(1e-3), "layer %d, position %d: expert %d, want %d", layer, i/2, got[i], want[i])
		}
	}
}

func argmax(x []float32) (best int) {
	for i := range x {
		if x[i] > x[best] {
			best = i
		}
	}
	return best
}

func TestLayers(t *testing.T) {
	devices := hiptest.Hosts(2)
	devices["reference"] = hip.NewReference()
	for name, d := range devices {
		t.Run(name, func(t *testing.T) {
			defer func() { require.NoError(t, d.Close()) }()
			for _, format := range []string{"mxfp8", "bf16"} {
				m, closeAll := load(t, d, folderOf(t, format), 4)
				for i := range 3 {
					compareLayers(t, m, fmt.Sprintf("%s-%d.safetensors", format, i), 1e-5)
				}
				closeAll()
			}
		})
	}
}

// TestLayersOnEmulations compares each format on one GPU of either vendor, and the prompts
// in turn.
func TestLayersOnEmulations(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	hiptest.OnEmulations(t, func(t *testing.T, i, n int, d hip.Device) {
		format := []string{"mxfp8", "bf16"}[i%2]
		m, closeAll := load(t, d, folderOf(t, format), 4)
		compareLayers(t, m, fmt.Sprintf("%s-%d.safetensors", format, i/2%3), 2e-3)
		closeAll()
	})
}

// TestRaggedRuns: what shares a pass, and how a text is cut into passes, does not change a
// bit on the reference device.
func TestRaggedRuns(t *testing.T) {
	d := hip.NewReference()
	defer d.Close()
	m, closeAll := load(t, d, m3tiny.Checkpoint(), 32)
	defer closeAll()
	h, vocab := m.Config.HiddenSize, m.Config.VocabSize
	texts := [][]int32{tokens("func main() {\n\tfmt.Println("), tokens("package x\n\nimport \"fmt\"\n\n// New returns"), tokens("\x00")}
	type whole struct{ hidden, logits []float32 }
	alone := make([]whole, len(texts))
	for i, text := range texts {
		pHidden, pLogits, err := m.Run(t.Context(), []Rows{{Sequence: m.Cache.NewSequence(), Tokens: text, Logits: len(text)}})
		require.NoError(t, err)
		alone[i] = whole{read[float32](t, d, pHidden, len(text)*h), read[float32](t, d, pLogits, len(text)*vocab)}
	}
	sequences := []*attention.Sequence{m.Cache.NewSequence(), m.Cache.NewSequence(), m.Cache.NewSequence()}
	done := make([]int, len(texts))
	for _, cut := range [][]int{{3, 30, 0}, {1, 5, 1}, {17, 0, 0}} { // rows of each text
		var batch []Rows
		var rows, want int
		for i, n := range cut {
			if n = min(n, len(texts[i])-done[i]); n > 0 {
				batch = append(batch, Rows{Sequence: sequences[i], Tokens: texts[i][done[i]:][:n], Logits: (n + 1) / 2})
				rows, want = rows+n, want+(n+1)/2
			}
		}
		pHidden, pLogits, err := m.Run(t.Context(), batch)
		require.NoError(t, err)
		hidden, logits := read[float32](t, d, pHidden, rows*h), read[float32](t, d, pLogits, want*vocab)
		for i, n := range cut {
			if n = min(n, len(texts[i])-done[i]); n == 0 {
				continue
			}
			end := done[i] + n
			require.Equal(t, alone[i].hidden[done[i]*h:end*h], hidden[:n*h])
			require.Equal(t, alone[i].logits[(end-(n+1)/2)*vocab:end*vocab], logits[:(n+1)/2*vocab])
			hidden, logits, done[i] = hidden[n*h:], logits[(n+1)/2*vocab:], end
			require.Equal(t, end, sequences[i].Len())
		}
	}
	// Rows that were truncated leave no trace.
	require.NoError(t, sequences[0].Truncate(4))
	pHidden, _, err := m.Run(t.Context(), []Rows{{Sequence: sequences[0], Tokens: texts[0][4:9], Logits: 0}})
	require.NoError(t, err)
	require.Equal(t, alone[0].hidden[4*h:9*h], read[float32](t, d, pHidden, 5*h))
}

func tokens(text string) (tokens []int32) {
	for _, b := range []byte(text) {
		tokens = append(tokens, int32(b))
	}
	return tokens
}

// TestRunRefuses: a pass that cannot run changes nothing.
func TestRunRefuses(t *testing.T) {
	d := hip.NewHost()
	defer d.Close()
	m, closeAll := load(t, d, m3tiny.Checkpoint(), 2)
	seq := m.Cache.NewSequence()
	_, _, err := m.Run(t.Context(), []Rows{{Sequence: seq, Tokens: []int32{1, 2}}})
	require.NoError(t, err)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for says, batch := range map[string][]Rows{
		"target: run: Sequences[0].Tokens is empty, want at least one":                                                                     {{Sequence: seq}},
		"target: run: Sequences[0].Sequence is nil, want a sequence of the cache":                                                          {{Tokens: []int32{1}}},
		"target: mtp: tokens[2] is 256, want 0 to 255":                                                                                     {{Sequence: seq, Tokens: []int32{1}}, {Sequence: m.Cache.NewSequence(), Tokens: []int32{1, 256}}},
		"target: run: Sequences[0].Logits is 2, want 0 to 1, the rows":                                                                     {{Sequence: seq, Tokens: []int32{1}, Logits: 2}},
		"attention: begin: Sequences[0]: cache is full: 2 pages needed, 1 free; close or truncate other sequences, or make a larger cache": {{Sequence: seq, Tokens: make([]int32, 90)}},
		"attention: begin: Sequences[1].Sequence is that of Sequences[0], want each once":                                                  {{Sequence: seq, Tokens: []int32{1}}, {Sequence: seq, Tokens: []int32{1}}},
		"attention: begin: claims is empty, want at least one":                                                                             {},
		"canceled": {{Sequence: seq, Tokens: []int32{1}}},
	} {
		ctx := t.Context()
		if says == "canceled" {
			ctx = canceled
		}
		_, _, err := m.Run(ctx, batch)
		require.ErrorContains(t, err, says)
		require.Equal(t, 2, seq.Len())
		require.Equal(t, 1, m.Cache.FreePages())
	}
	closeAll()
}

// TestLoadIsExact: what is missing, left over or not computed here is an error that names it,
// and nothing stays allocated.
func TestLoadIsExact(t *testing.T) {
	const shard = "model-00001-of-00002.safetensors"
	config := func(old, new string) func(map[string][]byte) {
		return func(files map[string][]byte) {
			changed := bytes.Replace(files["config.json"], []byte(old), []byte(new), 1)
			require.NotEqual(t, files["config.json"], changed)
			files["config.json"] = changed
		}
	}
	index := func(old, new string) func(map[string][]byte) {
		return func(files map[string][]byte) {
			for _, name := range []string{"model.safetensors.index.json", shard} {
				require.Contains(t, string(files[name]), old)
				files[name] = bytes.Replace(files[name], []byte(old), []byte(new), 1) // of the same length
			}
		}
	}
	head, err := mtp.LoadFS(t.Context(), m3tiny.Checkpoint(), mtp.Options{})
	require.NoError(t, err)
	defer head.Close()
	for _, c := range []struct {
		says   string
		change func(files map[string][]byte)
	}{
		{"moe_layer_freq is [0 1 1 1], want a number for each layer", config(`"num_hidden_layers": 4`, `"num_hidden_layers": 5`)},
		{"dense_intermediate_size is 0, want 1 to 2^17", config("dense_intermediate_size", "dense_intermediate_xxxx")},
		{"self_attn.q_proj.weight", index("layers.0.self_attn.q_proj.weight\"", "layers.0.self_attn.x_proj.weight\"")},
		{"no parameter takes the tensor", index("layers.0.self_attn.q_proj.weight\"", "layers.0.self_attn.x_proj.weight\"")},
	} {
		files := map[string][]byte{}
		names, err := fs.Glob(m3tiny.Checkpoint(), "*")
		require.NoError(t, err)
		for _, name := range names {
			files[name], err = fs.ReadFile(m3tiny.Checkpoint(), name)
			require.NoError(t, err)
			files[name] = slices.Clone(files[name])
		}
		c.change(files)
		folder := fstest.MapFS{}
		for name, data := range files {
			folder[name] = &fstest.MapFile{Data: data}
		}
		_, before := hiptest.InUse(head.Device())
		_, err = Load(t.Context(), folder, head, 1, attention.CacheF32, nil)
		require.ErrorContains(t, err, c.says)
		_, live := hiptest.InUse(head.Device())
		require.Equal(t, before, live)
	}
	_, err = Load(t.Context(), fstest.MapFS{}, head, 1, attention.CacheF32, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
