package mtp

import (
	"errors"
	"fmt"
	"strings"

	"github.com/drafthead/drafthead/weights"
)

const (
	embedTokens = "model.embed_tokens.weight"
	lmHead      = "lm_head.weight"
)

// layerName returns the name in the model of parameter name of an MTP module.
func layerName(module int, name string) string {
	return fmt.Sprintf("model.layers.%d.%s", module, name)
}

// tensorName returns the name in a standalone checkpoint.
func tensorName(module int, name string) string {
	return fmt.Sprintf("model.mtp.layers.%d.%s", module, name)
}

// Parameters returns every parameter of the head as a rank of a parallel head holds it,
// with the tensors that make it up, in model order. The shares are those of
// Options.TensorParallel and ExpertParallel; zero Shards give the whole head. The error
// joins an [InputError] for every share that cannot be cut.
func (c *Config) Parameters(tensor, expert Shard) ([]weights.Param, error) {
	return c.parameters(parallel{tensor: tensor, expert: expert}, func(int) bool { return true })
}

// parameters is Parameters, but with one parameter only of a module that is not there:
// enough to report it.
func (c *Config) parameters(p parallel, there func(module int) bool) ([]weights.Param, error) {
	shares, err := c.shares(p)
	if err != nil {
		return nil, err
	}
	b := paramBuilder{config: c, shares: shares}
	b.shared(embedTokens, shares.embed)
	if !c.TieWordEmbeddings {
		b.shared(lmHead, shares.vocab)
	}
	for module := range c.NumMTPModules {
		if !there(module) {
			b.vector(module, "enorm.weight", c.HiddenSize)
			continue
		}
		b.module(module)
	}
	return b.params, nil
}

// shares are a rank's ranges in the units in which parameters are cut.
type shares struct {
	heads, kvHeads        interval
	intermediate, shared  interval // inner width of a routed, of the shared expert
	experts, embed, vocab interval
}

// shares returns those of a rank. If they cannot be cut, the last of the errors says how
// many ranks can share the head.
func (c *Config) shares(p parallel) (s shares, err error) {
	if err := errors.Join(p.tensor.check("TensorParallel"), p.expert.check("ExpertParallel")); err != nil {
		return s, err
	}
	if s, err = c.cut(p); err == nil {
		return s, nil
	}
	const most = 64
	var sizes []string
	for n := 1; n <= most; n++ {
		q := p
		q.tensor = Shard{0, n}
		if _, err := c.cut(q); err == nil {
			sizes = append(sizes, fmt.Sprint(n))
		}
	}
	return s, errors.Join(err, &InputError{
		Op: "mtp: parameters", Field: "TensorParallel.Size", Got: p.tensor.Size, Want: fmt.Sprintf("one of %s for this head", strings.Join(sizes, ", ")),
	})
}

func (c *Config) cut(p parallel) (s shares, err error) {
	var errs []error
	cut := func(what string, f func(int) (r interval, want string), n int) interval {
		r, want := f(n)
		if want != "" {
			errs = append(errs, &InputError{
				Op: "mtp: parameters", Field: "TensorParallel.Size", Got: p.tensor.Size, Want: fmt.Sprintf("%s %s, %d", want, what, n),
			})
		}
		return r
	}
	s.heads = cut("num_attention_heads", p.tensor.even, c.Attention.Heads)
	s.kvHeads = cut("num_key_value_heads", p.tensor.replicated, c.Attention.KVHeads)
	blocks := func(n int) (interval, string) { return p.tensor.blocks(n, p.block) }
	s.shared = cut("shared_intermediate_size", blocks, c.MoE.SharedIntermediate)
	if p.group == (Shard{}) {
		s.vocab = cut("vocab_size", p.tensor.vocabulary, c.VocabSize)
		s.embed = s.vocab
	} else {
		s.vocab, s.embed = p.group.rows(c.VocabSize), all(c.VocabSize)
	}
	s.intermediate, s.experts = all(c.MoE.Intermediate), p.expert.uneven(c.MoE.Experts)
	if p.expert.whole() || p.grid {
		s.intermediate = cut("intermediate_size", blocks, c.MoE.Intermediate)
	}
	return s, errors.Join(errs...)
}

// all is [0, n).
func all(n int) interval { return interval{0, n} }

// times is a range in a finer unit: rows of heads, for example.
func times(r interval, n int) interval {
	return interval{r[0] * n, r[1] * n}
}

type paramBuilder struct {
	config *Config
	shares shares
	params []weights.Param
}

// shared adds a matrix that the head shares with its target.
func (b *paramBuilder) shared(name string, rows interval) {
	c := b.config
	b.params = append(b.params, weights.Param{Name: name, Parts: []weights.Part{{
		Tensor: name, Shape: []int{c.VocabSize, c.HiddenSize},
		KeepRows: rows, KeepCols: all(c.HiddenSize),
	}}})
}

// piece is a part of a matrix of one module.
type piece struct {
	tensor   string // after "model.mtp.layers.N.", without ".weight"
	rows     int
	keepRows interval
	cols     int
	keepCols interval
}

func (b *paramBuilder) matrix(module int, name string, pieces ...piece) {
	p := weights.Param{Name: layerName(module, name+".weight")}
	for _, s := range pieces {
		p.Parts = append(p.Parts, weights.Part{
			Tensor: tensorName(module, s.tensor+".weight"), Shape: []int{s.rows, s.cols},
			KeepRows: s.keepRows, KeepCols: s.keepCols,
		})
	}
	b.params = append(b.params, p)
}

func (b *paramBuilder) vector(module int, name string, n int) {
	b.params = append(b.params, weights.Param{Name: layerName(module, name), Parts: []weights.Part{{
		Tensor: tensorName(module, name), Shape: []int{n}, KeepRows: all(n),
	}}})
}

// kvScale adds the optional scale of an fp8 KV cache, a scalar.
func (b *paramBuilder) kvScale(module int, name, tensor string) {
	b.params = append(b.params, weights.Param{Name: layerName(module, name), Optional: true, Parts: []weights.Part{{
		Tensor: tensorName(module, tensor), KeepRows: all(1),
	}}})
}

// whole is a piece that every rank holds whole.
func whole(tensor string, rows, cols int) piece {
	return piece{tensor: tensor, rows: rows, keepRows: all(rows), cols: cols, keepCols: all(cols)}
}

// rowsOf is a piece cut by rows in units of unit rows.
func rowsOf(tensor string, n, unit int, keep interval, cols int) piece {
	return piece{tensor: tensor, rows: n * unit, keepRows: times(keep, unit), cols: cols, keepCols: all(cols)}
}

// colsOf is a piece cut by columns in units of unit columns.
func colsOf(tensor string, rows, n, unit int, keep interval) piece {
	return piece{tensor: tensor, rows: rows, keepRows: all(rows), cols: n * unit, keepCols: times(keep, unit)}
}

// module adds the parameters of one MTP module, in the order in which
// the forward needs them.
func (b *paramBuilder) module(m int) {
	c, s := b.config, &b.shares
	h, d, a := c.HiddenSize, c.Attention.HeadDim, &c.Attention
	const layer, attn, moe = "transformer_layer.", "transformer_layer.self_attn.", "transformer_layer.block_sparse_moe."

	b.vector(m, "enorm.weight", h)
	b.vector(m, "hnorm.weight", h)
	b.vector(m, "final_layernorm.weight", h)
	b.matrix(m, "eh_proj", whole("eh_proj", h, 2*h))
	b.vector(m, layer+"input_layernorm.weight", h)
	b.vector(m, layer+"post_attention_layernorm.weight", h)

	b.matrix(m, attn+"qkv_proj",
		rowsOf(attn+"q_proj", a.Heads, d, s.heads, h),
		rowsOf(attn+"k_proj", a.KVHeads, d, s.kvHeads, h),
		rowsOf(attn+"v_proj", a.KVHeads, d, s.kvHeads, h),
		rowsOf(attn+"index_q_proj", a.KVHeads, a.IndexDim, s.kvHeads, h),
		rowsOf(attn+"index_k_proj", 1, a.IndexDim, all(1), h))
	b.matrix(m, attn+"o_proj", colsOf(attn+"o_proj", h, a.Heads, d, s.heads))
	b.vector(m, attn+"q_norm.weight", d)
	b.vector(m, attn+"k_norm.weight", d)
	b.vector(m, attn+"index_q_norm.weight", a.IndexDim)
	b.vector(m, attn+"index_k_norm.weight", a.IndexDim)
	b.kvScale(m, keyScale, attn+"k_proj.k_scale")
	b.kvScale(m, valueScale, attn+"v_proj.v_scale")

	b.matrix(m, moe+"gate", whole(moe+"gate", c.MoE.Experts, h))
	b.vector(m, moe+"e_score_correction_bias", c.MoE.Experts)
	b.experts(m, moe)
	b.matrix(m, moe+"shared_experts.gate_up_proj",
		rowsOf(moe+"shared_experts.gate_proj", c.MoE.SharedIntermediate, 1, s.shared, h),
		rowsOf(moe+"shared_experts.up_proj", c.MoE.SharedIntermediate, 1, s.shared, h))
	b.matrix(m, moe+"shared_experts.down_proj",
		colsOf(moe+"shared_experts.down_proj", h, c.MoE.SharedIntermediate, 1, s.shared))
}

// experts adds w13 (per expert: gate rows, then up rows) and w2 of all experts.
// An expert that another rank holds is still checked, and none of it is kept.
func (b *paramBuilder) experts(m int, moe string) {
	c, s := b.config, &b.shares
	h, width := c.HiddenSize, c.MoE.Intermediate
	w13 := weights.Param{Name: layerName(m, moe+"experts.w13_weight")}
	w2 := weights.Param{Name: layerName(m, moe+"experts.w2_weight")}
	for e := range c.MoE.Experts {
		keep, keepDown := s.intermediate, all(h)
		if e < s.experts[0] || e >= s.experts[1] {
			keep, keepDown = interval{}, interval{}
		}
		tensor := func(id string) string {
			return tensorName(m, fmt.Sprintf("%sexperts.%d.%s.weight", moe, e, id))
		}
		for _, id := range []string{"w1", "w3"} {
			w13.Parts = append(w13.Parts, weights.Part{
				Tensor: tensor(id), Shape: []int{width, h},
				KeepRows: keep, KeepCols: all(h),
			})
		}
		w2.Parts = append(w2.Parts, weights.Part{
			Tensor: tensor("w2"), Shape: []int{h, width},
			KeepRows: keepDown, KeepCols: s.intermediate,
		})
	}
	b.params = append(b.params, w13, w2)
}
