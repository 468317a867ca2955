// Package attention is block-sparse attention over a paged cache: the norms
// and rotations of queries and keys, the indexer that scores blocks of keys,
// the selection of blocks, and softmax attention over the selected ones.
//
// # How does a forward pass use it?
//
// A [Cache] holds pages for many sequences, a [Sequence] owns a table of them,
// a [Batch] describes the ragged rows of one pass to the kernels. Per layer:
//
//	err = seq.Reserve(n)                         // pages, copied if shared
//	err = seq.MarkWritten(layer, from, from+n)   // the keys this pass writes
//	err = batch.Upload(seq.Span(layer, from, n), ...)
//
//	err = attention.Insert(batch, layer, qkv, params)     // norm, RoPE, cache
//	err = attention.Scores(batch, layer, qkv, scores)     // rank the blocks
//	err = attention.Select(batch, scores, selected)       // choose some
//	err = attention.Attend(batch, layer, qkv, selected, out)
//
// Every function checks its arguments before it launches anything.
package attention
