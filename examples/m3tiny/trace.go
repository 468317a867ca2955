package m3tiny

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strings"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// Trace is the greedy output of a target model with its hidden states: what a
// draft head is fed and judged by.
type Trace struct {
	Name      string
	PromptLen int      // tokens of the prompt; the rest is the target's own
	Tokens    []int32  // [N]
	Hidden    []uint16 // [N, Width] bfloat16: after the target's final norm
	Width     int

	// HiddenPre are the hidden states before the target's final norm, of the same shape.
	// nil: the trace has none.
	HiddenPre []uint16

	// LMHead names the target, as LMHeadHash does: lm_head in the file's metadata. "": the
	// trace does not say.
	LMHead string

	// Recorded drafts by the format of the head that made them; none in a trace
	// of the user's own.
	Drafts map[Variant]*Drafts
}

// Variant names a head that drafts were recorded with: what follows "drafts" in the name of
// their tensor.
type Variant string

// The variants of a head of one module, by how its weights are stored.
const (
	BF16  Variant = ""
	MXFP8 Variant = "_mxfp8"
)

// Aligned returns the variant of a head of aligned modules that drafts by a rule.
func Aligned(modules int, rule string) Variant {
	return Variant(fmt.Sprintf("_aligned%d_%s", modules, rule))
}

// Drafts are recorded drafts: row n holds those for tokens n+1 … n+K when tokens
// 0 … n are known; −1 within the prompt, and wherever nothing was recorded.
type Drafts struct {
	K       int
	IDs     []int32   // [N, K]
	Margins []float32 // [N, K] top-1 minus top-2 logit after each
}

// ErrTrace is a file that does not hold a trace.
var ErrTrace = errors.New("invalid trace")

// ReadTrace reads and checks a trace file of a folder.
func ReadTrace(fsys fs.FS, name string) (t *Trace, err error) {
	file, err := safetensors.Open(fsys, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r := reader{file: file}
	t = &Trace{Name: strings.TrimSuffix(path.Base(name), ".safetensors"), LMHead: file.Metadata()["lm_head"], Drafts: make(map[Variant]*Drafts)}
	t.Tokens = r.ints("tokens", -1)
	n := len(t.Tokens)
	promptLen := r.ints("prompt_len", 1)
	t.Hidden = r.bfloat16("hidden", n, -1)
	if _, ok := file.Tensor("hidden_pre"); ok {
		t.HiddenPre = r.bfloat16("hidden_pre", n, len(t.Hidden)/max(n, 1))
	}
	for _, tensor := range file.Tensors() {
		name, is := strings.CutPrefix(tensor.Name, "drafts")
		v := Variant(name)
		if !is {
			continue
		}
		d := &Drafts{IDs: r.ints("drafts"+string(v), n, -1), Margins: r.floats("margin"+string(v), n, -1)}
		if n > 0 {
			d.K = len(d.IDs) / n
		}
		r.refuse(len(d.Margins) != len(d.IDs), "margin"+string(v), len(d.Margins), fmt.Sprintf("%d values", len(d.IDs)))
		t.Drafts[v] = d
	}
	if r.err != nil {
		return nil, r.err
	}
	t.PromptLen, t.Width = int(promptLen[0]), len(t.Hidden)/max(n, 1)
	r.refuse(t.PromptLen < 1 || t.PromptLen >= n, "prompt_len", t.PromptLen, fmt.Sprintf("1 to %d, one less than tokens", n-1))
	r.refuse(t.Width < 1, "hidden", "empty", "a row for each token")
	return t, r.err
}

// reader reads tensors and keeps the first thing wrong.
type reader struct {
	file *safetensors.File
	err  error
}

func (r *reader) refuse(bad bool, tensor string, got any, want string) {
	if bad && r.err == nil {
		r.err = fmt.Errorf("%s: %s is %v, want %s: %w", safetensors.Printable(r.file.Name()), tensor, got, want, ErrTrace)
	}
}

// bytes returns a tensor of the dtype and shape; −1 stands for any extent.
func (r *reader) bytes(name string, dtype safetensors.Dtype, shape ...int) []byte {
	if r.err != nil {
		return nil
	}
	t, ok := r.file.Tensor(name)
	if !ok {
		r.refuse(true, name, "missing", wanted(dtype, shape))
		return nil
	}
	fits := t.Dtype == dtype && len(t.Shape) == len(shape)
	for i := 0; fits && i < len(shape); i++ {
		fits = shape[i] == -1 || t.Shape[i] == shape[i]
	}
	r.refuse(!fits, name, fmt.Sprintf("%v %v", t.Dtype, t.Shape), wanted(dtype, shape))
	if r.err != nil {
		return nil
	}
	b := make([]byte, t.Size())
	if _, err := t.ReadAt(b, 0); err != nil {
		r.err = err
		return nil
	}
	return b
}

// wanted is a dtype and shape in words.
func wanted(dtype safetensors.Dtype, shape []int) string {
	return strings.ReplaceAll(fmt.Sprintf("%v %v", dtype, shape), "-1", "any")
}

func (r *reader) ints(name string, shape ...int) []int32 {
	b := r.bytes(name, "I64", shape...)
	out := make([]int32, len(b)/8)
	for i := range out {
		v := int64(binary.LittleEndian.Uint64(b[8*i:]))
		out[i] = int32(v)
		r.refuse(int64(out[i]) != v, fmt.Sprintf("%s[%d]", name, i), v, "an int32")
	}
	return out
}

func (r *reader) floats(name string, shape ...int) []float32 {
	b := r.bytes(name, safetensors.F32, shape...)
	out := make([]float32, len(b)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return out
}

func (r *reader) bfloat16(name string, shape ...int) []uint16 {
	b := r.bytes(name, safetensors.BF16, shape...)
	out := make([]uint16, len(b)/2)
	for i := range out {
		out[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return out
}
