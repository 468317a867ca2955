// Package attention computes block-sparse attention over a paged cache: the norms and
// rotations of queries and keys, the indexer that scores blocks of keys, the selection of
// blocks, and softmax attention over the selected ones.
//
// # How does a forward pass use it?
//
// A [Cache] holds pages for many sequences, and a [Sequence] owns a table of them. A
// [Transaction] covers the rows that one call writes: all of them stay, or none do. A
// [Batch] describes the ragged rows of one pass to the kernels.
//
//	tx, err := cache.Begin(attention.Claim{Sequence: seq, From: from, To: from + n}, ...)
//	defer tx.Rollback()                          // does nothing after Commit
//
//	span, err := tx.Span(0, layer, from, n)      // per layer: the rows that this pass writes
//	err = batch.Upload(span, ...)
//	err = attention.Insert(batch, layer, qkv, params)     // norm, RoPE, cache
//	err = attention.Scores(batch, layer, qkv, scores)     // rank the blocks
//	err = attention.Select(batch, scores, selected)       // choose some
//	err = attention.Attend(batch, layer, qkv, selected, out)
//
//	err = tx.Commit()
//
// A [Geometry] without index heads is that of dense attention: Insert, then Attend to every
// key that a row sees.
//
// Every function checks its arguments before it launches anything.
//
// # Who has which page?
//
// Begin gives a call the pages that it writes. In this example pages have 4 positions, and
// a sequence of 6 positions shares its pages 3 and 8 with a fork:
//
//	                             block 0     block 1     block 2
//	before                       [3 a b c d] [8 e f    ]                Len 6
//	Begin, From 6, To 9, Spare 4 [3 a b c d] [5 e f · ·] [2 · × × ×]    8 was copied to 5, 2 is new
//	Commit                       [3 a b c d] [5 e f g h] [2 i      ]    Len 9
//
// Spare rows (×) are rows that a call writes and does not keep, such as the drafts of a
// chain. Here three of four fit, since no page was free for the last. Commit drops them and
// gives back the pages that Begin took only for them.
package attention
