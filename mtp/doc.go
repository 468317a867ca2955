// Package mtp loads and runs the multi-token-prediction (MTP) draft head of MiniMax-M3. The
// head drafts the next few tokens from the target model's hidden states; the target then
// confirms or corrects them in one forward. GUIDE.md, beside this file, leads an engine's
// author from a target to drafts in production.
//
// # How do I draft?
//
// [Load] a checkpoint folder, make one [Cache] for all sequences and one
// [Sequence] for each, and call [Head.Draft] after every step of the target:
//
//	head, err := mtp.Load(ctx, dir, mtp.Options{})
//	cache, err := head.NewCache(pages)
//	seq := cache.NewSequence()
//
//	drafts, err := head.Draft(ctx, &mtp.Batch{
//		Sequences: []mtp.Rows{{Sequence: seq, Position: seq.Len(), Tokens: tokens, Drafts: 4}},
//		Hidden:    mtp.Hidden{BFloat16: states},
//	})
//	accepted, next, err := mtp.Verify(drafts[0], chosen) // what the target chose
//
// A row stands for a position that the target has run. It carries the token
// AFTER that position, and the target's hidden state at that position, after the
// target's final norm:
//
//	position      0    1    2    3
//	text          t₀   t₁   t₂   t₃        the prompt
//	row's token   t₁   t₂   t₃   t₄        t₄: just sampled by the target
//	row's hidden  h₀   h₁   h₂   h₃        of the target
//
//	first Draft   rows 0–3, Len becomes 4; drafts for t₅ t₆ t₇ t₈
//	the target    runs positions 4–8 at once; it accepts t₅ t₆ and chooses t₇
//	next Draft    rows 4–6 with t₅ t₆ t₇, Len becomes 7; drafts for t₈ …
//
// Draft commits the rows it is given. The chain itself writes rows after them. Those are
// gone when Draft returns, and their pages went back to the cache when that Draft ended: a
// rejected draft needs no rollback, and the next call gives the confirmed rows. A prompt
// may be given in pieces, with Drafts 0, which costs least; the last piece then drafts.
// Rows of [Head.Forward] count as committed too; an aligned or target-fed chain runs them
// again (see [ChainAligned]).
//
// An engine with a paged cache of its own passes [Rows.BlockTable] in place of a Sequence.
// An engine with hidden states on the device passes Hidden.Device (see [Hidden]). An engine
// that samples drafts in ways of its own calls [Head.Forward] and [Head.Logits] in place of
// Draft, or [Head.TopK] for the branches of a tree.
//
// The head runs on the CPU unless the options name a device. On a GPU:
//
//	import _ "github.com/drafthead/drafthead/hip/gpu"
//
//	gpu, err := hip.Open(0) // or hip.OpenOptions{Platform: "cuda"}
//	head, err := mtp.Load(ctx, dir, mtp.Options{Device: gpu})
//	err = errors.Join(head.Close(), gpu.Close()) // at the end, in this order
//
// # How do I sample?
//
// With [Rows.Sampling], Draft draws its tokens, and [Head.VerifySampled] decides in the place
// of [Verify]. The text that comes out has exactly the target's distribution, whatever the
// drafts; they only decide how fast it comes.
//
//	sampling := mtp.Sampling{Temperature: 0.7, TopP: 0.9, Seed: seed, Stream: uint64(sequence)}
//
//	drafts, err := head.Draft(ctx, &mtp.Batch{
//		Sequences: []mtp.Rows{{Sequence: seq, Position: seq.Len(), Tokens: tokens, Drafts: 4, Sampling: &sampling}},
//		Hidden:    mtp.Hidden{BFloat16: states},
//	})
//	verified, err := head.VerifySampled(ctx, []mtp.Verification{{
//		Draft: drafts[0], Position: len(text), Sampling: sampling,
//		Device: logits, // [len(Tokens)+1, vocab_size] float32, of the target's forward
//	}})
//	text = append(text, drafts[0].Tokens[:verified[0].Accepted]...)
//	text = append(text, verified[0].Next)
//
// Drafts that are drawn as the target draws are accepted most: on m3-tiny, a small trained
// model with byte tokens, of 5 drafts as many as
//
//	temperature                     0.7     1.0
//	greedy drafts                   2.49    2.09
//	drawn                           3.49    3.46
//	drawn, [Verification].Block     3.60    3.60
//
// Structured output gives the same function as [Rows.Allowed] and as Allowed of the
// [Verification], so that the head drafts what the target may say. A greedy target takes the
// zero Sampling, and a sequence that drafted nothing an empty [Draft]: VerifySampled then
// draws the next token. What is drawn depends on Sampling and the position in the text alone,
// not on the batch or the device.
//
// # How many tokens should I draft?
//
// As many as pay: it depends on how often drafts are accepted, and on what a draft step and
// a row of the target cost at the present batch size. [Controller] learns both and chooses
// Rows.Drafts for each sequence.
//
// # Which chain can do what?
//
// Every rule of [Chain] can do all of this. The rule says what a sequence must bring along:
//
//	                          chain   chain_mod_own   chain_aligned   chain_target
//	Sequence                  yes     yes             yes             yes
//	BlockTable                yes     yes             again           again
//	prompt in pieces          yes     yes             yes             yes
//	Drafts of each sequence   yes     yes             yes             yes
//	Drafts 0                  yes     yes             yes             yes
//	MinProbability            yes     yes             yes             yes
//	Sampling                  yes     yes             yes             yes
//	Allowed                   yes     yes             yes             yes
//	DraftVocabulary           yes     yes             yes             yes
//	Fork                      yes     yes             yes             yes
//	Truncate                  yes     yes             again           again
//	Fork and Truncate         yes     yes             again           again
//	Draft after Forward       yes     yes             again           again
//	WriteTo and ReadSequence  yes     yes             yes             yes
//	closed and computed anew  yes     yes             yes             yes
//	Embeds                    yes     yes             yes             yes
//
// again: the caller gives the last rows once more, one fewer than the chain has steps, and
// these run at all steps from the target's hidden states. [Sequence.Resume] says from which
// row on; a BlockTable's rows always begin with them. An engine that begins at Resume every
// time need not know the rule:
//
//	from := seq.Resume() // mostly Len
//	rows := mtp.Rows{Sequence: seq, Position: from, Tokens: text[from+1:], Drafts: 4}
//	states := target[from:] // hidden states of the same rows
//
// # How does a head run on several GPUs?
//
// Each rank of a parallel head loads its share on its own device, and all ranks make the
// same calls in the same order. All get the same drafts, from the same bits:
//
//	groups, err := hip.NewGroup(ctx, devices) // in one process; or one rank in each:
//	id, err := hip.NewGroupID(device)         // on one of them, which hands it round
//	group, err := hip.JoinGroup(ctx, device, id, rank, size)
//
//	head, err := mtp.Load(ctx, dir, mtp.Options{Device: device, Group: group})
//
// examples/internal/ranks does both for the programs, where an id goes round by a file.
//
// [Options.TensorParallel] and ExpertParallel say how the ranks share attention and the
// experts, where that is not by tensor alone. A step sums over the ranks twice, and picks a
// token from each rank's best ones:
//
//	on every rank               embedding, eh_proj, norms, router
//	a rank's heads              attention, o_proj            all-reduce [rows, hidden_size]
//	a rank's experts, columns   experts, shared expert       all-reduce [rows, hidden_size]
//	a rank's rows of lm_head    its most probable tokens     all-gather of them
//
// eh_proj is whole on every rank: cut in two it would save as much time as the third
// exchange takes that it would then need. embed_tokens is whole for the same reason; a row
// of it is all that is read. Logits and drafts that are drawn gather rows of logits.
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
// wait for that one until the time limit. A mask of [Rows].Allowed that is wrong, which a
// rank sees in the middle of a Draft, ends the call on all in the same step.
//
// After a failure all ranks form a new group and call [Head.Regroup], or close their heads.
// A rank whose process has ended loads its share again while the others call Regroup.
//
// # How do prompts share pages?
//
// By rows, not by tokens: of n tokens that two texts begin with, n−1 rows are the same,
// since a row carries the token after its position.
//
//	b, err := a.Fork()                // A goes on as it was
//	err = b.Truncate(n - 1)           // n shared tokens
//	rows of B from b.Resume() on      // n − 1, or before it: "again"
//
// A page that both hold is copied once one of them writes to it, so a share may end within
// a page. GUIDE.md draws it, also for engines with block tables.
//
// # How do I make drafts cheaper?
//
// Most of what a draft reads is lm_head: 2.46 of 2.95 GB for the released head, in
// bfloat16. With [Options.DraftLMHead], Draft picks tokens by a copy that is requantized at
// load. With [Options.DraftVocabulary] it reads the rows of some tokens only, for example
// the 32 768 most frequent of your own text:
//
//	opts.DraftLMHead = weights.INT8       // 53 % of the bytes; nearly all drafts are the same
//	opts.DraftLMHead = weights.MXFP4      // 27 %; measure what it costs in acceptance
//	opts.DraftVocabulary = frequentTokens // 16 % of the bytes with 32 768 of 200 064 tokens
//
// With [Options.CacheFormat] caches hold more. Of the released head a position takes, in
// each layer,
//
//	attention.CacheF32        4608 bytes
//	attention.CacheBF16       2304
//	attention.CacheFP8        1280
//	attention.CacheFP8Index   1152
//
// Drafts are guesses and may be cheaper. What the target confirms stays exact, and so do
// [Head.Logits]. examples/draft measures on traces of a target how much acceptance that
// costs.
//
// # What does a module compute?
//
//	e      = embed[token], and zero where position = 0
//	x      = eh_proj · concat( rms(e; enorm), rms(h; hnorm) )
//	r      = x + o_proj · attention( rms(x; input_layernorm) )
//	hidden = r + moe( rms(r; post_attention_layernorm) )
//	logits = lm_head · rms(hidden; final_layernorm)
//
//	rms(x; w) = x / √(mean(x²) + rms_norm_eps) · (1 + w)
//
// (module).forward, in module.go, has the first four formulas line by line; the last is in
// logits.go. Attention is block-sparse: package attention says which blocks a row sees. The
// experts are in package moe. [Chain] says which module runs at which step, and
// [Options.PostNorm] what the next step is fed with. Package mtp/reference computes the
// same in float64.
//
// # What does Load refuse?
//
// Anything that would make a head silently draft nonsense. A parameter that is not wholly
// covered, a part given twice, a shape, dtype or scale that does not fit, a tensor under
// the head's own prefix that nothing takes, a file that breaks the safetensors format, an
// index that is not true of its shards, a config that is incomplete, contradictory or asks
// for a branch of the model family that is not computed here: each is an error, before a
// byte is moved. All problems of one kind are reported together: config and files first,
// then the options, and if these are sound the tensors. [Inspect] gives the same answer
// without loading. The target's own tensors are not the head's; [weights.Report] counts
// them. If the config ties lm_head to embed_tokens, an lm_head in the files must have the
// same bytes, or it is refused.
//
// A tensor is read as it is stored: quantization_config, of whatever method, only leads to
// notes. [Inspect] compares with the files what a config of mxfp8, fp8, compressed-tensors,
// Quark or ModelOpt says of the weights, and hf_quant_config.json where the config says
// nothing. Headers do not show whether values were ever written; [Options.CheckWeights] reads
// them.
//
// # Errors
//
// Every error begins with "mtp: ", or with the package that it comes from.
//
//   - [*InputError], which wraps [ErrInput]: an option of Load or an argument of a call
//     that is refused before anything runs
//   - [*InputError], wraps [ErrConfig]: a key of config.json
//   - [*safetensors.FormatError]: a file, the index, or a shard that contradicts it;
//     [*weights.Problem]: a tensor that does not fit; [weights.Problems] lists what Load
//     and Inspect report, one by one
//   - [*attention.CacheFullError], which wraps [attention.ErrCacheFull]: a cache without room
//     for confirmed rows, with the sequence and the pages that it lacks. Preempt, and call again
//   - [ErrClosed]: a head, cache or sequence that was closed
//
// A call that fails leaves its sequences as they were, except for rows before Len that a
// Forward has already overwritten.
//
// # Numerics
//
// Activations are float32. The reference device sums products in float64 and rounds once.
// The host and a GPU sum in float32; [weights.Rows.Multiply] gives the host's order. A host
// that was opened with [hip.HostOptions].Activations rounds each activation that BF16 and
// MXFP8 weights multiply to two bfloat16, within 2·10^−5 of a product's largest result, or
// to one, within 10^−2. A GPU with matrix units multiplies more than 4 rows with bfloat16 or
// MXFP8 weights there, and Hopper with MXFP4 and NVFP4 weights too: it splits each
// activation into two bfloat16, which leave out 2^−18 of it. Experts have other bounds, and
// other formats and weights that are not aligned go on in float32. Rotary angles are
// computed in float64 and rounded once, as cosine and sine. Weights stay as they are stored:
// float32, float16, bfloat16, MXFP8, MXFP4, NVFP4, or FP8 with 128 × 128 blocks, and lm_head
// for drafts in INT8 on request. The cache is bfloat16, or by [Options.CacheFormat] float32,
// or F8_E4M3 by the scales of the checkpoint. By [Options.Activations] the rows that MXFP8
// weights multiply are rounded to MXFP8 where there are at least 5, which is off by up to
// 5 % of a product's largest result. Ties go to the lower token, expert and block. No row's
// result depends on the other rows of a batch; their number may change its rounding, except
// on the reference device and in plain Go.
//
// # Ownership and concurrency
//
// A [Head] owns its parameters, its caches, the mapping of its files, and the device if
// none was given. Close waits for calls under way and gives all of it back. Close in this
// order: sequences and caches, which is optional, since the head closes its caches and a
// Sequence may be dropped, or closed later; then the head; then Free the memory that you
// imported or adopted; then close the device if it is yours.
//
// Several goroutines may call a Head at the same time with different sequences. Only one
// goroutine at a time may use a [Sequence]; a second one gets an error. A [Batch] is only
// read and not kept. The caller owns results. A context ends a load within one chunk, and a
// Draft between two steps (on a GPU, while they are queued). When a call returns, with an
// error or without, nothing uses its memory any more.
//
// Positions and lengths are in tokens, caches in pages of sparse_block_size
// tokens, sizes in bytes; hidden states are [rows, hidden_size] and logits
// [rows, vocab_size], row-major.
package mtp
