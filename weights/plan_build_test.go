package weights

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// headShape is a head of one MTP layer, with every kind of parameter.
type headShape struct {
	hidden, heads, kvHeads, headDim, inner, experts, vocab int
}

// smallHead has columns of 32, 64 and 128, and rows that fill no block of 128.
var smallHead = headShape{hidden: 64, heads: 4, kvHeads: 2, headDim: 16, inner: 32, experts: 2, vocab: 65}

const layer0, attn0, moe0 = "layers.0.", "layers.0.transformer_layer.self_attn.", "layers.0.transformer_layer.block_sparse_moe."

// Shard is a rank's share of a parallel head, and Parallel that of its parameters.
type (
	Shard    struct{ Rank, Size int }
	Parallel struct{ Tensor, Expert Shard }
)

var errUncut = errors.New("cannot be cut")

// cut deals n parts that are each held by `copies` ranks, as package mtp does.
func (s Shard) cut(n, copies int) (interval, error) {
	ranks := max(s.Size, 1) / copies
	if ranks*copies != max(s.Size, 1) || n%ranks != 0 {
		return interval{}, errUncut
	}
	each, at := n/ranks, s.Rank/copies
	return interval{at * each, (at + 1) * each}, nil
}

// all is [0, n).
func all(n int) interval { return interval{0, n} }

// times is a range in a finer unit: rows of heads, for example.
func times(r interval, n int) interval { return interval{r[0] * n, r[1] * n} }

// params returns a rank's parameters as package mtp makes them.
func (h headShape) params(p Parallel) ([]Param, error) {
	var err error
	cut := func(n, copies int) interval {
		r, e := p.Tensor.cut(n, copies)
		if err == nil {
			err = e
		}
		return r
	}
	heads, kv := cut(h.heads, 1), cut(h.kvHeads, max(1, p.Tensor.Size/h.kvHeads))
	inner, experts := all(h.inner), all(h.experts)
	if size := p.Expert.Size; size > 1 { // the first ranks may hold one more
		experts[0] = p.Expert.Rank*(h.experts/size) + min(p.Expert.Rank, h.experts%size)
		experts[1] = (p.Expert.Rank+1)*(h.experts/size) + min(p.Expert.Rank+1, h.experts%size)
	} else {
		inner = cut(h.inner, 1)
	}
	vocab := cut(ceilDiv(h.vocab, 64)*64, 1) // padded
	vocab = interval{min(vocab[0], h.vocab), min(vocab[1], h.vocab)}
	rows := func(tensor string, n, cols int, keep interval) Part {
		return Part{Tensor: "model.mtp." + tensor + ".weight", Shape: []int{n, cols}, KeepRows: keep, KeepCols: all(cols)}
	}
	vector := func(name, tensor string, n int) Param {
		part := Part{Tensor: "model.mtp." + tensor, KeepRows: all(max(n, 1))}
		if n > 0 {
			part.Shape = []int{n}
		}
		return Param{Name: "model." + name, Optional: n == 0, Parts: []Part{part}}
	}
	d, width := h.headDim, h.heads*h.headDim
	down := rows(attn0+"o_proj", h.hidden, width, all(h.hidden))
	down.KeepCols = times(heads, d)
	embed := rows("", h.vocab, h.hidden, vocab)
	embed.Tensor = "model.embed_tokens.weight"
	params := []Param{
		{Name: embed.Tensor, Parts: []Part{embed}},
		vector(layer0+"enorm.weight", layer0+"enorm.weight", h.hidden),
		{Name: "model." + layer0 + "eh_proj.weight", Parts: []Part{rows(layer0+"eh_proj", h.hidden, 2*h.hidden, all(h.hidden))}},
		{Name: "model." + attn0 + "qkv_proj.weight", Parts: []Part{
			rows(attn0+"q_proj", width, h.hidden, times(heads, d)),
			rows(attn0+"k_proj", h.kvHeads*d, h.hidden, times(kv, d)),
			rows(attn0+"v_proj", h.kvHeads*d, h.hidden, times(kv, d)),
			rows(attn0+"index_q_proj", h.kvHeads*d, h.hidden, times(kv, d)),
			rows(attn0+"index_k_proj", d, h.hidden, all(d)),
		}},
		{Name: "model." + attn0 + "o_proj.weight", Parts: []Part{down}},
		vector(attn0+"q_norm.weight", attn0+"q_norm.weight", d),
		vector(attn0+"attn.k_scale", attn0+"k_proj.k_scale", 0),
		vector(attn0+"attn.v_scale", attn0+"v_proj.v_scale", 0),
		vector(moe0+"e_score_correction_bias", moe0+"e_score_correction_bias", h.experts),
	}
	w13 := Param{Name: "model." + moe0 + "experts.w13_weight"}
	w2 := Param{Name: "model." + moe0 + "experts.w2_weight"}
	for e := range h.experts {
		expert := func(id string, n, cols int, keepRows, keepCols interval) Part {
			part := rows(fmt.Sprintf("%sexperts.%d.%s", moe0, e, id), n, cols, keepRows)
			part.KeepCols = keepCols
			if e < experts[0] || e >= experts[1] {
				part.KeepRows = interval{}
			}
			return part
		}
		w13.Parts = append(w13.Parts, expert("w1", h.inner, h.hidden, inner, all(h.hidden)), expert("w3", h.inner, h.hidden, inner, all(h.hidden)))
		w2.Parts = append(w2.Parts, expert("w2", h.hidden, h.inner, all(h.hidden), inner))
	}
	return append(params, w13, w2), err
}

// synthetic is a checkpoint of random weights.
type synthetic struct {
	parts  []part
	values map[string][]float32 // by tensor: rows × cols
}

// synthesize makes every tensor of the parameters, with its scales after it.
func synthesize(params []Param, formatOf func(tensor string) Format) *synthetic {
	r := rand.New(rand.NewPCG(7, 1))
	s := &synthetic{values: make(map[string][]float32)}
	for _, p := range params {
		for _, of := range p.Parts {
			f := formatOf(of.Tensor)
			if p.vector() && f.quantized() {
				f = BF16
			}
			w := newStored(r, f, of.rows(), of.cols())
			s.values[of.Tensor] = w.values
			shape := of.Shape
			if f.quantized() {
				shape = f.storedShape(of.rows(), of.cols())
			}
			s.parts = append(s.parts, part{of.Tensor, formats[f].weight, shape, string(w.data)})
			if f == NVFP4 {
				s.parts = append(s.parts, part{strings.TrimSuffix(of.Tensor, "weight") + "weight_global_scale", safetensors.F32, []int{1}, string(binary.LittleEndian.AppendUint32(nil, math.Float32bits(w.of.divisor)))})
			}
			if f.quantized() {
				rows, cols := f.scaleShape(of.rows(), of.cols())
				s.parts = append(s.parts, part{of.Tensor + "_scale_inv", formats[f].scales[0], []int{rows, cols}, string(w.scale)})
			}
		}
	}
	return s
}

// always gives all tensors one format, but the shared ones, whose scales the
// seed does not map, none with scales.
func always(f Format) func(string) Format {
	return func(tensor string) Format {
		if f.quantized() && !strings.Contains(tensor, ".mtp.") {
			return BF16
		}
		return f
	}
}

// mixed gives neighboring tensors different formats.
func mixed(tensor string) Format {
	switch {
	case strings.Contains(tensor, "k_proj"):
		return BF16
	case strings.Contains(tensor, "embed"), strings.Contains(tensor, "v_proj"):
		return F16
	case strings.Contains(tensor, "norm"), strings.Contains(tensor, "bias"), strings.Contains(tensor, "w3"):
		return F32
	}
	return MXFP8
}

// index returns the place of a tensor.
func (s *synthetic) index(tensor string) int {
	return slices.IndexFunc(s.parts, func(p part) bool { return p.name == tensor })
}

// files deals the tensors to n shards, a weight and its scales apart.
func (s *synthetic) files(n int) map[string][]byte {
	files := make(map[string][]byte)
	for i := range n {
		var parts []part
		for j := i; j < len(s.parts); j += n {
			parts = append(parts, s.parts[j])
		}
		files[fmt.Sprintf("model-%d.safetensors", i)] = buildFile(parts...)
	}
	return files
}

func inMap(files map[string][]byte) fstest.MapFS {
	fsys := make(fstest.MapFS)
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: data}
	}
	return fsys
}

// streams is a file system whose files can only be read from their beginning.
type streams struct{ fstest.MapFS }

func (s streams) Open(name string) (fs.File, error) {
	f, err := s.MapFS.Open(name)
	return struct{ fs.File }{f}, err
}

func (s streams) ReadDir(name string) ([]fs.DirEntry, error) { return s.MapFS.ReadDir(name) }

func openHead(t testing.TB, fsys fs.FS) *safetensors.Folder {
	t.Helper()
	c, err := OpenCheckpoint(fsys)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// headOf returns the parameters of a rank, of which the test depends.
func headOf(t testing.TB, h headShape, p Parallel) []Param {
	t.Helper()
	params, err := h.params(p)
	require.NoError(t, err)
	return params
}

// headPlan plans all of a head whose checkpoint is on disk.
func headPlan(t testing.TB, h headShape, formatOf func(string) Format) (*Plan, *synthetic) {
	t.Helper()
	params := headOf(t, h, Parallel{})
	s := synthesize(params, formatOf)
	plan, err := NewPlan(openHead(t, os.DirFS(onDisk(t, s.files(2)))), params)
	require.NoError(t, err)
	return plan, s
}
