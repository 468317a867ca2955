package reference

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/nlpodyssey/spago/mat"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// Head is a draft head in float64. Its methods only read it, so several goroutines may call
// them at once.
type Head struct {
	// Config is the checkpoint's config; it belongs to the Head.
	Config *mtp.Config

	// CacheFormat is how keys, values and index keys are rounded between being computed and
	// being attended to. Load sets [attention.CacheF32], which stands for not at all. It may be
	// changed before the first call.
	CacheFormat attention.CacheFormat

	embed, lmHead mat.Matrix // [V, H]
	modules       []module
}

// module holds the decoded weights of one MTP module, each of the shape it is stored in.
type module struct {
	enorm, hnorm, finalLayernorm           []float64  // [H]
	ehProj                                 mat.Matrix // [H, 2H]
	inputLayernorm, postAttentionLayernorm []float64  // [H]

	qProj, kProj, vProj, oProj mat.Matrix
	qNorm, kNorm               []float64 // [D]
	indexQProj, indexKProj     mat.Matrix
	indexQNorm, indexKNorm     []float64 // [index_dim]
	kScale, vScale             float64   // of an FP8 cache

	gate                mat.Matrix // [E, H]
	scoreCorrectionBias []float64  // [E]
	experts             []expert
	sharedExpert        expert
}

// expert is one gated feed-forward network.
type expert struct {
	w1, w3 mat.Matrix // gate and up, [I, H]
	w2     mat.Matrix // down, [H, I]
}

// Load reads config.json and the head's tensors from the top folder of fsys and decodes
// them. It skips tensors of the target and of other modules. It reports together the first
// 100 tensors that are missing, of the wrong shape or undecodable, each by its name. It
// also refuses what [mtp.InspectFS] refuses, and loads as many modules as that finds.
func Load(fsys fs.FS) (*Head, error) {
	config, _, refused := mtp.InspectFS(fsys, mtp.Options{})
	if config == nil {
		return nil, refused
	}
	checkpoint, err := safetensors.OpenFolder(fsys, ofHead)
	if err != nil {
		return nil, err
	}
	l := &loader{checkpoint: checkpoint}
	head := &Head{Config: config, CacheFormat: attention.CacheF32}
	head.embed = l.matrix("model.embed_tokens.weight", config.VocabSize, config.HiddenSize)
	head.lmHead = head.embed
	if !config.TieWordEmbeddings {
		head.lmHead = l.matrix("lm_head.weight", config.VocabSize, config.HiddenSize)
	}
	for i := range config.NumMTPModules {
		if l.full() {
			break
		}
		head.modules = append(head.modules, l.module(fmt.Sprintf("model.mtp.layers.%d.", i), config))
	}
	if err := errors.Join(append(l.problems, checkpoint.Close())...); err != nil {
		return nil, err
	}
	if refused != nil {
		return nil, refused
	}
	return head, nil
}

const bundledPrefix = "language_model."

// ofHead reports whether a tensor belongs to the head or is shared with it.
func ofHead(name string) bool {
	name = strings.TrimPrefix(name, bundledPrefix)
	return name == "model.embed_tokens.weight" || name == "lm_head.weight" || strings.HasPrefix(name, "model.mtp.layers.")
}

// loader decodes tensors and collects what is wrong with them. A tensor in error is nil.
type loader struct {
	checkpoint *safetensors.Folder
	problems   []error
}

// maxProblems is how many problems are reported.
const maxProblems = 100

// full reports whether no more problems are looked for.
func (l *loader) full() bool { return len(l.problems) >= maxProblems }

func (l *loader) fail(err error) {
	if !l.full() {
		l.problems = append(l.problems, err)
	}
}

// find returns the tensor stored under name, with or without the bundled prefix.
func (l *loader) find(name string) (*safetensors.Tensor, bool) {
	bare, isBare := l.checkpoint.Tensor(name)
	prefixed, isPrefixed := l.checkpoint.Tensor(bundledPrefix + name)
	if isBare && isPrefixed {
		l.fail(&tensorError{tensor: name, got: "also " + prefixed.Name, want: "one of them"})
	}
	if isPrefixed {
		return prefixed, true
	}
	return bare, isBare
}

// require is find for a tensor that must exist.
func (l *loader) require(name string, shape ...int) (*safetensors.Tensor, bool) {
	t, ok := l.find(name)
	if !ok {
		l.fail(&tensorError{tensor: name, got: "nothing", want: fmt.Sprintf("a tensor of shape %v", shape)})
	}
	return t, ok
}

// vector decodes a tensor of shape [n].
func (l *loader) vector(name string, n int) []float64 {
	t, ok := l.require(name, n)
	if !ok {
		return nil
	}
	values, err := elements(t, []int{n}, safetensors.F32, safetensors.BF16, safetensors.F16)
	if err != nil {
		l.fail(err)
	}
	return values
}

// matrix decodes a tensor of shape [rows, cols]. It is quantized exactly when
// it is F8_E4M3, and then its scales must lie beside it.
func (l *loader) matrix(name string, rows, cols int) mat.Matrix {
	if m, ok := l.fourBits(name, rows, cols); ok {
		return m
	}
	t, ok := l.require(name, rows, cols)
	if !ok {
		return nil
	}
	values, err := elements(t, []int{rows, cols}, safetensors.F32, safetensors.BF16, safetensors.F16, safetensors.F8E4M3)
	scale, hasScale := l.find(name + "_scale_inv")
	switch quantized := t.Dtype == safetensors.F8E4M3; {
	case err != nil:
	case quantized && hasScale:
		values, err = scaled(values, rows, cols, scale)
	case quantized:
		err = &tensorError{tensor: t.Name, got: "no " + name + "_scale_inv", want: "scales beside a matrix of F8_E4M3"}
	case hasScale:
		err = &tensorError{tensor: scale.Name, got: "a weight of " + string(t.Dtype), want: "scales beside a matrix of F8_E4M3 only"}
	}
	if err != nil {
		l.fail(err)
		return nil
	}
	return newMatrix(rows, cols, values)
}

// module decodes the tensors of one MTP module, whose names begin with prefix.
func (l *loader) module(prefix string, c *mtp.Config) module {
	h, d := c.HiddenSize, c.Attention.HeadDim
	layer := prefix + "transformer_layer."
	attn, moe := layer+"self_attn.", layer+"block_sparse_moe."
	m := module{
		enorm:                  l.vector(prefix+"enorm.weight", h),
		hnorm:                  l.vector(prefix+"hnorm.weight", h),
		ehProj:                 l.matrix(prefix+"eh_proj.weight", h, 2*h),
		finalLayernorm:         l.vector(prefix+"final_layernorm.weight", h),
		inputLayernorm:         l.vector(layer+"input_layernorm.weight", h),
		postAttentionLayernorm: l.vector(layer+"post_attention_layernorm.weight", h),
		qProj:                  l.matrix(attn+"q_proj.weight", c.Attention.Heads*d, h),
		kProj:                  l.matrix(attn+"k_proj.weight", c.Attention.KVHeads*d, h),
		vProj:                  l.matrix(attn+"v_proj.weight", c.Attention.KVHeads*d, h),
		oProj:                  l.matrix(attn+"o_proj.weight", h, c.Attention.Heads*d),
		qNorm:                  l.vector(attn+"q_norm.weight", d),
		kNorm:                  l.vector(attn+"k_norm.weight", d),
		indexQProj:             l.matrix(attn+"index_q_proj.weight", c.Attention.KVHeads*c.Attention.IndexDim, h),
		indexKProj:             l.matrix(attn+"index_k_proj.weight", c.Attention.IndexDim, h),
		indexQNorm:             l.vector(attn+"index_q_norm.weight", c.Attention.IndexDim),
		indexKNorm:             l.vector(attn+"index_k_norm.weight", c.Attention.IndexDim),
		gate:                   l.matrix(moe+"gate.weight", c.MoE.Experts, h),
		scoreCorrectionBias:    l.vector(moe+"e_score_correction_bias", c.MoE.Experts),
		sharedExpert: expert{
			w1: l.matrix(moe+"shared_experts.gate_proj.weight", c.MoE.SharedIntermediate, h),
			w3: l.matrix(moe+"shared_experts.up_proj.weight", c.MoE.SharedIntermediate, h),
			w2: l.matrix(moe+"shared_experts.down_proj.weight", h, c.MoE.SharedIntermediate),
		},
	}
	m.kScale, m.vScale = l.cacheScales(attn)
	for e := range c.MoE.Experts {
		if l.full() {
			break
		}
		name := fmt.Sprintf("%sexperts.%d.", moe, e)
		m.experts = append(m.experts, expert{
			w1: l.matrix(name+"w1.weight", c.MoE.Intermediate, h),
			w3: l.matrix(name+"w3.weight", c.MoE.Intermediate, h),
			w2: l.matrix(name+"w2.weight", h, c.MoE.Intermediate),
		})
	}
	return m
}
