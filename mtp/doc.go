// Package mtp loads and runs the multi-token-prediction (MTP) draft head of MiniMax-M3. The
// head drafts the next few tokens from the target model's hidden states; the target then
// confirms or corrects them in one forward.
//
// # How do I draft?
//
// Load a checkpoint folder, make one [Cache] for all sequences and one [Sequence] for each,
// and call [Head.Draft] after every step of the target:
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
// A row stands for a position that the target has run. It carries the token AFTER that
// position, and the target's hidden state at that position, after the target's final norm:
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
// Draft commits the rows it is given. The rows of the chain are gone when it returns, so a
// rejected draft needs no rollback. A prompt may come in pieces, with Drafts 0; the last
// piece drafts. The package's example is a whole program.
//
// The head runs on the CPU unless [Options].Device says otherwise. On a GPU:
//
//	import _ "github.com/drafthead/drafthead/hip/gpu"
//
//	gpu, err := hip.Open(0) // or hip.OpenOptions{Platform: "cuda"}
//	head, err := mtp.Load(ctx, dir, mtp.Options{Device: gpu})
//	err = errors.Join(head.Close(), gpu.Close()) // at the end, in this order
//
// # Where do I read on?
//
// [GUIDE.md], beside this file, leads an engine's author from a target to drafts in
// production, step by step, and says how numbers are rounded. By question:
//
//   - what rows, tokens and hidden states does a call take: [Batch], [Rows], [Hidden]
//   - which rule was the head trained for, and what can each do: [Chain]
//   - what does Load refuse: [Load]; without loading: [Inspect]
//   - how do I sample, or hold drafts to a grammar: [Sampling], [Head.VerifySampled], [Rows]
//   - how many tokens should I draft: [Controller]
//   - how do prompts share pages: [Sequence.Fork]; move a sequence: [Sequence.WriteTo]
//   - my engine has a paged cache: [Rows].BlockTable
//   - my engine drafts in ways of its own: [Head.Forward], [Head.Logits], or [Head.TopK] for
//     the branches of a tree
//   - how do I make drafts cheaper: [Options].DraftLMHead, DraftVocabulary,
//     DraftActivations and CacheFormat
//   - how does a head run on several GPUs: [Options].Group
//   - who may call what at the same time, and who closes what: [Head]
//   - what does it compute: [Head.Forward]; every result in between: [Stage]
//   - what do I watch: [Head.Stats], [Head.Memory]
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
//     for confirmed rows, with the sequence and the pages that it lacks. Preempt one, and call
//     again
//   - [hip.ErrGroup]: the ranks of a parallel head do not go on together
//   - [ErrClosed]: a head, cache or sequence that was closed
//
// A call that fails leaves its sequences as they were, except for rows before Len that a
// Forward has already overwritten.
//
// Positions and lengths are in tokens, caches in pages of sparse_block_size tokens, sizes
// in bytes; hidden states are [rows, hidden_size] and logits [rows, vocab_size], row-major.
//
// [GUIDE.md]: https://github.com/drafthead/drafthead/blob/main/mtp/GUIDE.md
package mtp
