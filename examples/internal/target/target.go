// Package target runs a small MiniMax-M3 target model, built from the library's rooms:
// weights reads it, norm, attention and moe compute it. A layer is
//
//	x += o_proj · attention( rms(x; input_layernorm) )
//	x += mlp( rms(x; post_attention_layernorm) )
//
// over x = embed[token]; h = rms(x; model.norm) is what the draft head is fed with, and
// lm_head · h are the logits. embed and lm_head are the head's own. Attention is dense.
package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/moe"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/norm"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// Target is a loaded model with a paged cache. Only one goroutine may use it at a time.
type Target struct {
	Config     *Config
	Cache      *attention.Cache // its sequences are those of Rows
	head       *mtp.Head
	device     hip.Device // the head's
	checkpoint *safetensors.Folder
	loaded     *weights.Loaded
	norm       hip.Ptr // [HiddenSize] float32: model.norm
	lmHead     *weights.Matrix
	layers     []layer
	batch      *attention.Batch
	buffers    [7]hip.Buffer // see reserve
	moe        moe.Workspace

	observe func(layer int, stage string, at hip.Ptr, p pass) // called with stages of each layer
}

type layer struct {
	inputNorm, mlpNorm hip.Ptr
	qkv, o             *weights.Matrix
	attention          attention.Params
	mlp                *moe.Experts
}

// Load reads the target that a head is bundled with, and makes a cache of so many pages. As
// with mtp.Load each parameter has its tensors and each tensor of the target its parameter,
// or all that does not fit is reported before bytes move. The head must stay open until Close.
func Load(ctx context.Context, fsys fs.FS, head *mtp.Head, pages int, format attention.CacheFormat, progress func(done, total int64)) (t *Target, err error) {
	t = &Target{head: head, device: head.Device(), lmHead: cmp.Or(head.Matrix("lm_head.weight"), head.Matrix("model.embed_tokens.weight"))} // tied
	defer func() {
		if err != nil {
			t, err = nil, errors.Join(err, t.Close())
		}
	}()
	if t.Config, err = readConfig(fsys, head.Config()); err != nil {
		return t, fmt.Errorf("target: %w", err)
	}
	if t.checkpoint, err = safetensors.OpenFolder(fsys, owns); err != nil {
		return t, err
	}
	plan, err := weights.NewPlan(t.checkpoint, t.Config.params())
	if err == nil {
		t.loaded, err = plan.Load(ctx, t.device, false, false, progress)
	}
	if err != nil {
		return t, fmt.Errorf("target: %w", err)
	}
	vector := func(name string) hip.Ptr {
		p, _ := t.loaded.Vector(name)
		return p
	}
	t.norm = vector(finalNorm)
	for i := range t.Config.Layers {
		matrix := func(name string) *weights.Matrix { return t.loaded.Matrix(layerName(i, name)) }
		vector := func(name string) hip.Ptr { return vector(layerName(i, name)) }
		t.layers = append(t.layers, layer{
			inputNorm: vector("input_layernorm.weight"), mlpNorm: vector("post_attention_layernorm.weight"),
			qkv: matrix("self_attn.qkv_proj.weight"), o: matrix("self_attn.o_proj.weight"),
			attention: attention.Params{QNorm: vector("self_attn.q_norm.weight"), KNorm: vector("self_attn.k_norm.weight")},
			mlp:       moe.NewExperts(t.Config.MLP[i], func(name string) *weights.Matrix { return matrix(t.Config.mlpName(i, name)) }, vector(expertBias)),
		})
	}
	if t.Cache, err = attention.NewCache(t.device, t.Config.Attention, t.Config.Layers, pages, format); err != nil {
		return t, err
	}
	t.batch = attention.NewBatch(t.Cache)
	return t, nil
}

// Close frees all that the target took on its device, its cache too.
func (t *Target) Close() error {
	errs := []error{t.batch.Close(), t.moe.Free(t.device)}
	for i := range t.buffers {
		errs = append(errs, t.buffers[i].Free(t.device))
	}
	if t.Cache != nil {
		errs = append(errs, t.Cache.Close())
	}
	if t.loaded != nil {
		errs = append(errs, t.loaded.Close())
	}
	if t.checkpoint != nil {
		errs = append(errs, t.checkpoint.Close())
	}
	return errors.Join(errs...)
}

// Rows are the next rows of one sequence: a token at each position from its Len on.
type Rows struct {
	Sequence *attention.Sequence
	Tokens   []int32
	Logits   int // of how many of the last rows logits are wanted
}

// Run runs the rows of a ragged batch, and returns the hidden states of all rows, after the
// final norm, and the logits of those wanted: float32 [rows, HiddenSize] and [wanted,
// VocabSize], end to end in device memory that is the target's, until its next Run. The
// sequences keep the rows: the caller truncates one after drafts that it does not accept.
// When Run returns the device's work is over; with an error no sequence has changed.
func (t *Target) Run(ctx context.Context, batch []Rows) (hidden, logits hip.Ptr, err error) {
	tokens, wanted, err := t.check(batch)
	if err != nil {
		return 0, 0, err
	}
	var claims []attention.Claim
	for _, r := range batch {
		claims = append(claims, attention.Claim{Sequence: r.Sequence, From: r.Sequence.Len(), To: r.Sequence.Len() + len(r.Tokens)})
	}
	tx, err := t.Cache.Begin(claims...)
	if err != nil {
		return 0, 0, err
	}
	defer tx.Rollback() // does nothing after Commit
	// The layers of a sequence hold the same positions, so that one description of the
	// batch serves them all.
	spans := make([]attention.Span, len(claims))
	for i, c := range claims {
		for l := range t.layers {
			if spans[i], err = tx.Span(i, l, c.From, c.To-c.From); err != nil {
				return 0, 0, err
			}
		}
	}
	p, err := t.reserve(len(tokens), wanted)
	x, unknown := t.head.Embed(ctx, tokens)
	if err = errors.Join(err, unknown, t.batch.Upload(spans...)); err == nil {
		err = hip.WriteOf(t.device, p.x, x)
	}
	for i := 0; err == nil && i < len(t.layers); i++ {
		err = errors.Join(ctx.Err(), t.forward(i, p))
	}
	if err == nil {
		err = t.finish(batch, p)
	}
	if err = errors.Join(err, t.device.Sync()); err != nil {
		return 0, 0, fmt.Errorf("target: %w", err)
	}
	return p.final, p.logits, tx.Commit()
}

// check refuses rows that cannot run, and returns the tokens of all and how many logits are
// wanted.
func (t *Target) check(batch []Rows) (tokens []int32, wanted int, err error) {
	var errs []error
	for i, r := range batch {
		refuse := func(bad bool, field string, got any, want string) {
			if bad {
				errs = append(errs, &hip.InputError{Op: "target: run", Sequence: i + 1, Field: field, Got: got, Want: want})
			}
		}
		refuse(r.Sequence == nil, "Sequence", "nil", "a sequence of the cache")
		refuse(len(r.Tokens) == 0, "Tokens", "empty", "at least one")
		refuse(r.Logits < 0 || r.Logits > len(r.Tokens), "Logits", r.Logits, fmt.Sprintf("0 to %d, the rows", len(r.Tokens)))
		tokens, wanted = append(tokens, r.Tokens...), wanted+r.Logits
	}
	return tokens, wanted, errors.Join(errs...)
}

// pass is the memory of a pass, all float32.
type pass struct {
	rows, wanted int
	x, y         hip.Ptr // [rows, HiddenSize]: what goes from layer to layer; norms and products
	qkv, ctx     hip.Ptr // [rows, Attention.Columns()], [rows, Heads · HeadDim]
	final        hip.Ptr // [rows, HiddenSize]
	picked       hip.Ptr // [wanted, HiddenSize]: rows of final
	logits       hip.Ptr // [wanted, VocabSize]
}

// reserve makes room for a pass. It reuses the memory of the last one.
func (t *Target) reserve(rows, wanted int) (p pass, err error) {
	c, a := t.Config, &t.Config.Attention
	p.rows, p.wanted = rows, wanted
	h := rows * c.HiddenSize
	values := [...]int{h, h, rows * a.Columns(), rows * a.Heads * a.HeadDim, h, wanted * c.HiddenSize, wanted * c.VocabSize}
	for i, at := range []*hip.Ptr{&p.x, &p.y, &p.qkv, &p.ctx, &p.final, &p.picked, &p.logits} {
		err = errors.Join(err, t.buffers[i].Grow(t.device, values[i], 4))
		*at = t.buffers[i].Ptr()
	}
	return p, err
}

// forward queues one layer.
func (t *Target) forward(i int, p pass) error {
	d, l, n, eps := t.device, &t.layers[i], t.Config.HiddenSize, t.Config.Attention.Eps
	for _, step := range []struct {
		run   func() error
		stage string
		at    hip.Ptr
	}{
		{func() error { return norm.RMSNorm(d, p.y, p.x, l.inputNorm, p.rows, n, eps) }, "attn_norm_out", p.y},
		{func() error { return l.qkv.Product(d, p.qkv, p.y, p.rows) }, "projected", p.qkv},
		{func() error { return attention.Insert(t.batch, i, p.qkv, l.attention) }, "qkv", p.qkv},
		{func() error { return attention.Attend(t.batch, i, p.qkv, 0, p.ctx) }, "attn_ctx", p.ctx},
		{func() error { return l.o.Product(d, p.y, p.ctx, p.rows) }, "attn_out", p.y},
		{func() error { return norm.AddRMSNorm(d, p.y, p.x, p.y, l.mlpNorm, p.rows, n, eps) }, "mlp_norm_out", p.y}, // x: residual
		{func() error { return l.mlp.Forward(d, &t.moe, p.x, p.x, p.y, p.rows) }, "hidden", p.x},
	} {
		if err := step.run(); err != nil {
			return err
		}
		if t.observe != nil {
			t.observe(i, step.stage, step.at, p)
		}
	}
	return nil
}

// finish queues the final norm, and the logits of the wanted rows, which it copies together.
func (t *Target) finish(batch []Rows, p pass) error {
	size := 4 * int64(t.Config.HiddenSize)
	err := norm.RMSNorm(t.device, p.final, p.x, t.norm, p.rows, t.Config.HiddenSize, t.Config.Attention.Eps)
	from, to := int64(0), p.picked
	for _, r := range batch {
		from += int64(len(r.Tokens))
		n := int64(r.Logits)
		if err == nil && n > 0 {
			err = t.device.Copy(to, p.final.Add((from-n)*size), n*size)
		}
		to = to.Add(n * size)
	}
	if err == nil {
		err = t.lmHead.Product(t.device, p.logits, p.picked, p.wanted)
	}
	return err
}
