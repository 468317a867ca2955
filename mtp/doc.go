// Package mtp loads and runs the multi-token-prediction (MTP) draft head of
// MiniMax-M3: from the target model's hidden states it drafts the next few
// tokens, which the target then confirms or corrects in one forward.
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
//	ids, probs, err := head.Draft(ctx, &mtp.Batch{
//		Sequences: []mtp.Rows{{Sequence: seq, Position: seq.Len(), Tokens: tokens}},
//		Hidden:    mtp.Hidden{BFloat16: states},
//	}, 4)
//	accepted, next, err := mtp.Verify(ids[0], chosen) // what the target chose
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
// Draft commits the rows it is given. What the chain itself writes behind them
// is provisional and gone when Draft returns, so a rejected draft needs no
// rollback: the next call simply gives the confirmed rows. A prompt may be given
// in pieces, by Draft with k 0, which costs least; the last piece then drafts. Rows
// of [Head.Forward] count as committed too, but for an aligned chain (see
// [ChainAligned]).
//
// An engine with a paged cache of its own passes [Rows.BlockTable] in place of a
// Sequence, one with hidden states on the device Hidden.Device (see [Hidden] for what
// memory of its own needs), and one that samples by itself [Head.Forward] and
// [Head.Logits] in place of Draft, or [Head.TopK] for the branches of a tree.
//
// # How do I make drafts cheaper?
//
// Most of what a draft reads is lm_head: 2.46 of 2.95 GB for the released head, in
// bfloat16. [Options.DraftLMHead] lets Draft pick tokens by a copy of it that is
// requantised at load, and [Options.DraftVocabulary] by the rows of some tokens,
// for example the 32 768 most frequent of your own text (see [MostFrequent]):
//
//	opts.DraftLMHead = weights.INT8       // 53 % of the bytes; nearly all drafts are the same
//	opts.DraftVocabulary = frequentTokens // 16 % of the bytes with 32 768 of 200 064 tokens
//
// Drafts are guesses and may be cheaper; what the target confirms stays exact, and
// so do [Head.Logits]. What acceptance that costs, examples/draft measures on
// traces of a target.
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
// Attention is block-sparse: package attention says which blocks a row sees.
// The experts are in package moe. [Chain] says which module runs at which step,
// and [Options.PostNorm] what the next step is fed with. Package mtp/reference
// has the same in float64, written as these formulas.
//
// # What does Load refuse?
//
// Everything that would make a head draft nonsense and say nothing. A parameter
// that is not wholly covered, a part given twice, a shape, dtype or scale that
// does not fit, a tensor under the head's own prefix that nothing takes, a file
// that breaks the safetensors format, an index that is not true of its shards, a
// config that is incomplete, contradictory or asks for a branch of the model
// family that is not computed here: each is an error, before a byte is moved. Each
// category reports all of its problems together: the config and the files first,
// then the options, and where these are sound the tensors. [Inspect] gives the same
// answer without loading. The target's own tensors are not the head's; [Report]
// counts them.
//
// # Errors
//
//   - [*ConfigError], wraps [ErrConfig] and its kind: a key of config.json
//   - [*safetensors.FormatError]: a file, a shard, the index, a file beside a copy of it
//   - [*weights.Problem]: a tensor; [weights.Problems] lists what Load and Inspect
//     report, one by one
//   - [*InputError], wraps [ErrInput]: an option of Load or an argument of a call, found
//     before anything ran
//   - [*VocabularyError], wraps [ErrVocabulary]: a line of a list of tokens
//   - [*attention.PositionError], [*attention.CacheFullError]: rows beyond
//     Config().Rope.Positions(), a cache without room
//
// A call that fails leaves its sequences as they were, but for what a Forward of rows
// before Len has written over already.
//
// # Numerics
//
// Activations are float32. A product on the host is summed in float32 over 32
// columns and in float64 above that; on the reference device all in float64,
// rounded once. On a GPU it is summed in float32, and of more than 4 rows each
// activation is two bfloat16 that leave out 2^−18 of it. Rotary angles are computed in float64 and rounded once, as
// cosine and sine. Weights are used as they are stored: float32, float16,
// bfloat16, MXFP8, or FP8 with 128 × 128 blocks, and lm_head for drafts in INT8
// where that is asked for. The cache is bfloat16, or
// float32 by [Options.CacheFormat]. Ties go to the lower token, expert and
// block. On the reference device a row has the same bits alone and in a batch.
//
// # Ownership and concurrency
//
// A [Head] owns its parameters, its caches, the mapping of its files, and the
// device if none was given; Close gives all back and waits for calls under way.
// Several goroutines may call a Head at the same time with different sequences;
// one goroutine at a time uses a [Sequence]. A [Batch] is only read and not kept.
// Results are the caller's. Contexts end loads within one chunk and drafts
// between two steps, on a GPU as they are queued. When a call returns, with an error or
// without, nothing uses its memory any more.
//
// Positions and lengths are in tokens, caches in pages of sparse_block_size
// tokens, sizes in bytes; hidden states are [rows, hidden_size] and logits
// [rows, vocab_size], row-major.
package mtp
