package mtp

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// Options of [Load] and [Inspect]. The zero value is right for most callers.
type Options struct {
	// Device runs the head. nil: a new [hip.NewHost] that the head closes. Close a device
	// of your own after the head. A program runs the head on a GPU with an import of
	// hip/gpu and [hip.Open], as the package's doc shows.
	Device hip.Device

	// Progress is called while weights are read, from the loading goroutine, with the
	// bytes that are ready and their total: see [weights.Plan.Load].
	Progress func(done, total int64)

	// Populate makes Load read a memory-mapped checkpoint ahead. Without it Load returns at
	// once and the first drafts wait for the disk.
	Populate bool

	// CheckWeights refuses a checkpoint in which a tensor of the head is all zero, or holds
	// NaN or infinities, as downloads that were broken off may: see
	// [weights.Plan.CheckWeights]. Load looks at what it uploads or populates as it passes,
	// and reads what else there is. Inspect reads all of it, and notes norms whose weights
	// are meant for x · w.
	CheckWeights bool

	// NoMap reads the checkpoint's files in place of mapping them, into memory of the
	// device's own. Calls then no longer depend on files that may shrink or change while the
	// head is open: see [Load].
	NoMap bool

	// Logger gets a record of each load, with what was found, and one of an lm_head made
	// for drafting. nil: no logging.
	Logger *slog.Logger

	// CacheFormat is how caches store keys, values and index keys: [attention.CacheBF16], the
	// zero value, [attention.CacheF32], or with about half the bytes [attention.CacheFP8] and
	// [attention.CacheFP8Index]. FP8 divides keys and values by the module's k_scale and v_scale
	// of the checkpoint, or by 1 where it has none; a kv_scale, or a k_scale alone, counts
	// for both. A scale that is not a finite number above 0 is a [weights.Problem] then. A
	// position of the released head takes, in each layer, 4608 bytes as CacheF32, 2304 as
	// CacheBF16, 1280 as CacheFP8 and 1152 as CacheFP8Index.
	CacheFormat attention.CacheFormat

	// Activations is how products round the rows that weights stored as MXFP8 multiply. The
	// zero value, [hip.ActivationsExact], rounds nothing. [hip.ActivationsMXFP8] rounds the
	// rows of eh_proj, of the projections of attention, of the experts and of the shared
	// expert to MXFP8 where a step has at least 5 of them: in prefills, commits and batches,
	// not in the steps of few sequences. A rounded value is off by up to 1/16 of itself, and
	// one product by up to 5 % of its largest result in the golden cases, so drafts change:
	// examples/draft -activations tells what that costs on traces. All devices round by the
	// same rule ([weights.QuantizedRows.Quantize]), and an AMD GPU of CDNA 4 multiplies what is
	// rounded natively. The router, lm_head and weights of other formats always multiply the
	// rows as they are. What a CPU rounds by itself, [hip.HostOptions] say; it rounds nothing
	// of what is MXFP8 already.
	Activations hip.Activations

	// DraftActivations is how Draft rounds what products multiply, on a CPU, where nothing that is
	// kept depends on it: [hip.ActivationsBF16x2] or [hip.ActivationsBF16]. The embeddings,
	// projections, keys and values of the batch's rows are as without it, since the sequences keep
	// them; attention's output projection, the experts and the logits of the last row are rounded,
	// and so is all of the rows that a chain writes only to draft further. A chain that shifts
	// tokens keeps what each step computes: there only logits are rounded. A product's results are
	// within 2·10^−5 or 10^−2 of the largest, so some drafts change: -draft-activations of
	// examples/draft tells what that costs on traces. Logits, TopK and Forward, and so
	// verification, stay as the device has them. The zero value rounds as the device does, as does any where
	// products are exact: [hip.HostOptions] say which those are, and GPUs ignore it.
	DraftActivations hip.Activations

	// Chain is the rule by which Draft goes from step to step.
	Chain Chain

	// PostNorm makes Draft feed steps after the first with rms(hidden; final_layernorm) in
	// place of the hidden state before that norm. An engine that goes from step to step by
	// [Head.Forward] must apply [Head.FinalNorm] between them.
	PostNorm bool

	// MaxDraft, 0 to 64, is the longest chain by ChainAligned and ChainTarget, whose caches
	// hold one layer for each step. 0: num_mtp_modules. Chains of other rules may always have 64
	// steps.
	MaxDraft int

	// MaxRows is how many rows run at once, at least 1. Longer steps run in pieces, one after
	// another, which bounds the working memory of a call: see [Memory]. 0: 1024. Observed
	// calls are not cut.
	MaxRows int

	// Modules is how many MTP modules are loaded, from module 0 on, whatever config.json
	// says. 0: as many as num_mtp_modules says, or num_nextn_predict_layers if that is
	// absent. The latter also counts in the config of a target, or in one copied from the
	// preview, if the files hold exactly that many modules; a note in the report then says
	// so.
	Modules int

	// DraftLMHead makes Draft read a copy of lm_head that is requantized at load:
	//
	//	weights.INT8    53 % of bfloat16's bytes, within 0.4 % of the largest of 32 weights
	//	weights.MXFP8   52 %, rounded to 4 significant bits: more drafts change
	//	weights.MXFP4   27 %, rounded to 2: one draft of 20 changes, with a vocabulary of bytes
	//
	// Most of what a draft reads is lm_head: 2.46 of 2.95 GB for the released head, in
	// bfloat16. 0, or the format it already has, uses lm_head as stored. Logits always uses lm_head
	// itself, so verification stays exact. The copy takes memory beside lm_head. See
	// [weights.Matrix.Requantize].
	DraftLMHead weights.Format

	// DraftVocabulary holds the tokens that Draft picks from, in any order; it reads only
	// their rows of lm_head, in place: with 32 768 of 200 064 tokens 16 % of the bytes.
	// Probabilities, also for Rows.MinProbability, are
	// then a softmax over these tokens alone. nil: all tokens. examples/draft reads
	// and makes such lists. Logits covers all tokens.
	DraftVocabulary []int32

	// Embed and LMHead are the target's own embed_tokens and lm_head, vocab_size ×
	// hidden_size, in the memory of Device. The caller keeps owning them, and the
	// checkpoint need not hold them. For a rank of a Group LMHead may also be its rows
	// alone.
	Embed, LMHead *weights.Matrix

	// Group makes the head one rank of a parallel head: every rank of the group
	// ([hip.NewGroup], [hip.JoinGroup]) loads its share on its own device, and all make the
	// same calls in the same order. All get the same drafts, from the same bits. nil, or a
	// group of one: the head runs alone.
	//
	//	Load, Regroup                   by all ranks: they compare their options
	//	Draft, Forward, Logits, TopK    by all ranks, with the same rows, drafts, seeds and masks
	//	NewCache, NewSequence, …        each rank for itself: its caches hold its heads
	//	VerifySampled                   each rank for itself, with whole logits; all draw alike
	//	WriteTo and ReadSequence        each rank for itself, its own share
	//
	// Hidden states are whole on every rank. What an engine decides by time or by chance, such
	// as a [Controller]'s draft lengths, one rank decides for all. If several goroutines call a
	// rank, they must call all ranks in one order. A call on one rank waits for the others.
	//
	// A rank that fails, is canceled or does not come within the group's time limit ends the
	// group. The call then is a [hip.ErrGroup] on every rank, and nothing is committed on those
	// that report it. So are ranks that were given different work: an exchange carries a hash of
	// all calls so far, with masks, and with hidden states that lie in host memory. An
	// [InputError] is each rank's own, and ends nothing, but ranks whose arguments are right
	// wait for that one until the time limit. A mask of Rows.Allowed that is wrong, which a
	// rank sees in the middle of a Draft, ends the call on all in the same step. After a
	// failure all ranks form a new group and call [Head.Regroup], or close their heads. A rank
	// whose process has ended loads its share again while the others call Regroup.
	//
	// The caller closes the group after the head. If Load fails on one rank it ends the
	// group, so that no other waits for it.
	Group *hip.Group

	// TensorParallel and ExpertParallel are one rank's share of the parameters. Without a
	// Group they are loaded as vLLM cuts them, to inspect or to share by [Head.Matrix]. Such
	// a head cannot run: NewCache and every call that runs it return an [InputError] that
	// wraps [errors.ErrUnsupported]. With a Group both zero stand for TensorParallel by the
	// group's ranks. Their sizes multiplied give the ranks of the group, and the experts
	// that ExpertParallel deals are cut by TensorParallel as well; or both sizes are that of
	// the group, as vLLM deals experts among the ranks that cut the rest.
	//
	// TensorParallel cuts attention heads, KV heads with their index heads (several ranks
	// hold the same one if there are more ranks than KV heads), rows of gate and up
	// projections, columns of down projections, and rows of the vocabulary. ExpertParallel
	// deals out whole experts; TensorParallel then does not cut the routed experts. Every
	// rank holds the norms, eh_proj, the router and the one index key. The ranks of a Group
	// all hold embed_tokens, and cut the rows of lm_head among them. Where equal parts of an
	// expert would cut through the blocks that share a scale, they hold whole blocks, some
	// ranks one more than others.
	TensorParallel, ExpertParallel Shard
}

// checkOptions returns all options that do not fit.
func (c *Config) checkOptions(opts Options) error {
	var errs []error
	refuseIf := func(bad bool, field string, got any, want string) {
		if bad {
			errs = append(errs, refuse("Options."+field, got, want, nil))
		}
	}
	refuseIf(opts.Modules < 0 || opts.Modules > maxModules, "Modules", opts.Modules, fmt.Sprintf("0 to %d", maxModules))
	_, err := opts.Chain.resolve(c.NumMTPModules)
	errs = append(errs, err)
	refuseIf(opts.MaxRows < 0, "MaxRows", opts.MaxRows, "at least 1, or 0 for 1024")
	refuseIf(opts.MaxDraft < 0 || opts.MaxDraft > maxDraft, "MaxDraft", opts.MaxDraft, fmt.Sprintf("0 to %d", maxDraft))
	refuseIf(opts.CacheFormat < attention.CacheBF16 || opts.CacheFormat > attention.CacheFP8Index, "CacheFormat", opts.CacheFormat, "CacheBF16, CacheF32, CacheFP8 or CacheFP8Index")
	refuseIf(opts.Activations != hip.ActivationsExact && opts.Activations != hip.ActivationsMXFP8, "Activations", opts.Activations, "ActivationsExact or ActivationsMXFP8")
	refuseIf(!roundsDrafts(opts.DraftActivations), "DraftActivations", opts.DraftActivations, "ActivationsExact, ActivationsBF16x2 or ActivationsBF16; Options.Activations rounds to MXFP8")
	for _, m := range []struct {
		field  string
		matrix *weights.Matrix
	}{{"Embed", opts.Embed}, {"LMHead", opts.LMHead}} {
		if m.matrix != nil && !(opts.Group != nil && m.field == "LMHead" && m.matrix.Rows == opts.parallel().group.rows(c.VocabSize).Len() && m.matrix.Cols == c.HiddenSize) {
			refuseIf(m.matrix.Rows != c.VocabSize || m.matrix.Cols != c.HiddenSize, m.field,
				fmt.Sprintf("%d × %d", m.matrix.Rows, m.matrix.Cols), fmt.Sprintf("%d × %d", c.VocabSize, c.HiddenSize))
		}
	}
	format := opts.DraftLMHead
	errs = append(errs, opts.checkGroup())
	field, share := opts.parallel().cut()
	refuseIf(field != "" && opts.Group == nil && (format != 0 || opts.DraftVocabulary != nil), field, share, "a whole head, with DraftLMHead or DraftVocabulary")
	refuseIf(format != 0 && format != weights.MXFP8 && format != weights.INT8 && format != weights.MXFP4, "DraftLMHead", format, "INT8, MXFP8, MXFP4, or 0 for as stored")
	errs = append(errs, checkDraftVocabulary(opts.DraftVocabulary, c.VocabSize))
	refuseIf((opts.Embed != nil || opts.LMHead != nil) && opts.Device == nil, "Device", "nil", "the device of Embed and LMHead")
	refuseIf(opts.Group != nil && opts.Group.Size() > 1 && opts.Device == nil, "Device", "nil", "the device of Group")
	return errors.Join(errs...)
}

// mostRows is how many rows run at once.
func (o *Options) mostRows() int {
	if o.MaxRows > 0 {
		return o.MaxRows
	}
	return 1024
}
