package mtp

import (
	"errors"
	"fmt"
	"sync"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/moe"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// maxDraft bounds the length of a chain.
const maxDraft = 64

// Head is a loaded draft head.
//
// All methods may be called from several goroutines at the same time, those that take
// sequences on different ones: a Head has no state of a call. Close waits for calls that
// run something. KVScales, Matrix, DraftLMHead and DraftVocabulary must not be called
// beside it.
type Head struct {
	config  *Config
	options Options
	chain   Chain
	report  *Report

	device     hip.Device
	ownsDevice bool
	checkpoint *safetensors.Folder // open while the device reads it in place
	loaded     *weights.Loaded

	geometry    attention.Geometry
	frequencies hip.Ptr // [rotary_dim/2] float64
	embed       *weights.Matrix
	lmHead      *weights.Matrix
	drafts      draftLMHead
	modules     []module

	using      sync.RWMutex // held for reading during calls
	closed     bool
	mu         sync.Mutex
	workspaces []*workspace // idle
	caches     map[*Cache]struct{}
}

// module is the parameters of one MTP module in device memory.
type module struct {
	enorm, hnorm, finalNorm hip.Ptr
	ehProj                  *weights.Matrix
	inputNorm, postNorm     hip.Ptr
	qkv, o                  *weights.Matrix
	qNorm, kNorm            hip.Ptr
	indexQNorm, indexKNorm  hip.Ptr
	experts                 *moe.Experts
}

// Config returns the checkpoint's config. It must not be changed.
func (h *Head) Config() *Config { return h.config }

// Report returns what was loaded. It must not be changed.
func (h *Head) Report() *Report { return h.report }

// Device returns the device that runs the head.
func (h *Head) Device() hip.Device { return h.device }

// KVScales returns the scales of an fp8 KV cache that the checkpoint gives for a
// module's keys and values, and whether it gives them. The head's own caches
// are not fp8 and do not use them.
func (h *Head) KVScales(module int) (k, v float32, ok bool) {
	const attn = "transformer_layer.self_attn.attn."
	ks, vs := h.loaded.Values(layerName(module, attn+"k_scale")), h.loaded.Values(layerName(module, attn+"v_scale"))
	if len(ks) == 0 {
		return 0, 0, false
	}
	if len(vs) == 0 { // kv_scale: one for both
		vs = ks
	}
	return ks[0], vs[0], true
}

// Matrix returns a loaded matrix by its parameter's name, for example
// "lm_head.weight", to share it with an engine. It is valid until Close, and nil
// if there is none.
func (h *Head) Matrix(name string) *weights.Matrix { return h.loaded.Matrix(name) }

// build makes what the forward needs of the loaded parameters.
func (h *Head) build() (err error) {
	c := h.config
	if h.chain, err = h.options.Chain.resolve(c.NumMTPModules); err != nil {
		return err
	}
	h.caches = make(map[*Cache]struct{})
	if !h.whole() {
		return nil
	}
	h.geometry = attention.Geometry{
		Heads: c.NumAttentionHeads, KVHeads: c.NumKeyValueHeads, HeadDim: c.HeadDim,
		IndexHeads: c.Sparse.NumIndexHeads, IndexDim: c.Sparse.IndexDim,
		BlockSize: c.Sparse.BlockSize, TopkBlocks: c.Sparse.TopkBlocks,
		InitBlocks: c.Sparse.InitBlock, LocalBlocks: c.Sparse.LocalBlock,
		Eps: c.RMSNormEps, Rope: c.Rope,
	}
	if err := h.geometry.Check(); err != nil {
		return err
	}
	if h.frequencies, err = hip.Upload(h.device, c.Rope.InverseFrequencies()); err != nil {
		return fmt.Errorf("rotary frequencies: %w", err)
	}
	h.embed, h.lmHead = h.options.Embed, h.options.LMHead
	if h.embed == nil {
		h.embed = h.loaded.Matrix(embedTokens)
	}
	if h.lmHead == nil {
		h.lmHead = h.loaded.Matrix(lmHead)
	}
	if c.TieWordEmbeddings && h.options.LMHead == nil {
		h.lmHead = h.embed
	}
	for i := range c.NumMTPModules {
		h.modules = append(h.modules, h.module(i))
	}
	return nil
}

// whole tells whether the head holds all parameters and not a rank's share.
func (h *Head) whole() bool {
	return h.options.Parallel.Tensor.Whole() && h.options.Parallel.Expert.Whole()
}

func (h *Head) module(i int) module {
	c := h.config
	const layer, attn, sparse = "transformer_layer.", "transformer_layer.self_attn.", "transformer_layer.block_sparse_moe."
	matrix := func(name string) *weights.Matrix { return h.loaded.Matrix(layerName(i, name)) }
	vector := func(name string) hip.Ptr { return h.loaded.Vector(layerName(i, name)) }
	return module{
		enorm: vector("enorm.weight"), hnorm: vector("hnorm.weight"), finalNorm: vector("final_layernorm.weight"),
		ehProj:    matrix("eh_proj.weight"),
		inputNorm: vector(layer + "input_layernorm.weight"), postNorm: vector(layer + "post_attention_layernorm.weight"),
		qkv: matrix(attn + "qkv_proj.weight"), o: matrix(attn + "o_proj.weight"),
		qNorm: vector(attn + "q_norm.weight"), kNorm: vector(attn + "k_norm.weight"),
		indexQNorm: vector(attn + "index_q_norm.weight"), indexKNorm: vector(attn + "index_k_norm.weight"),
		experts: &moe.Experts{
			Gate: matrix(sparse + "gate.weight"), Bias: vector(sparse + "e_score_correction_bias"),
			W13: matrix(sparse + "experts.w13_weight"), W2: matrix(sparse + "experts.w2_weight"),
			GateUp: matrix(sparse + "shared_experts.gate_up_proj.weight"), Down: matrix(sparse + "shared_experts.down_proj.weight"),
			Config: moe.Config{
				Hidden: c.HiddenSize, Intermediate: c.IntermediateSize, SharedIntermediate: c.SharedIntermediateSize,
				Experts: c.NumLocalExperts, TopK: c.NumExpertsPerTok,
				Scale: c.RoutedScalingFactor, Alpha: c.SwigluAlpha, Limit: c.SwigluLimit, Beta: c.SwigluBeta,
			},
		},
	}
}

// enter begins a call; leave ends it.
func (h *Head) enter() error {
	h.using.RLock()
	if h.closed {
		h.using.RUnlock()
		return fmt.Errorf("head: %w", ErrClosed)
	}
	if !h.whole() {
		h.using.RUnlock()
		p := h.options.Parallel
		return &InputError{Sequence: -1, Field: "Options.Parallel", Got: fmt.Sprintf("%+v", p), Want: "a whole head to run", Err: errors.ErrUnsupported}
	}
	return nil
}

func (h *Head) leave() { h.using.RUnlock() }

// Close frees all that the head took: weights, caches, the mapping of its files,
// and the device if Load made it. The first call waits for calls under way;
// later ones return ErrClosed.
func (h *Head) Close() error {
	h.using.Lock()
	defer h.using.Unlock()
	if h.closed {
		return fmt.Errorf("head: %w", ErrClosed)
	}
	h.closed = true
	return h.release()
}

func (h *Head) release() error {
	var errs []error
	for c := range h.caches {
		errs = append(errs, c.kv.Close())
	}
	for _, w := range h.workspaces {
		errs = append(errs, w.free())
	}
	h.caches, h.workspaces, h.modules = nil, nil, nil
	for _, m := range h.drafts.made {
		errs = append(errs, m.Free(h.device))
	}
	errs = append(errs, h.device.Free(h.drafts.tokens))
	h.drafts = draftLMHead{}
	if h.frequencies != 0 {
		errs = append(errs, h.device.Free(h.frequencies))
		h.frequencies = 0
	}
	if h.loaded != nil {
		errs = append(errs, h.loaded.Close())
	}
	if h.checkpoint != nil {
		errs = append(errs, h.checkpoint.Close())
	}
	if h.ownsDevice {
		errs = append(errs, h.device.Close())
	}
	return errors.Join(errs...)
}
