// Package reference is the MiniMax-M3 draft head written as its formulas, in
// float64, to be read beside the model's definition and to be compared with.
//
// It runs one sequence, keeps no cache and has no kernels: whatever a layer has
// seen is computed again from the rows it was given. It shares no decoder, no
// product and no selection with the rest of the library, so that agreement
// means something; only the config and the rotary frequencies are common. The
// weights of all modules are held decoded, 8 bytes an element: it is meant for
// checkpoints of tests, not for one of the released size.
//
// In the formulas a row vector x goes through a stored weight W of shape
// [out, in] as W·x. The forward of module i, with functions of the same names
// in this package:
//
//	e      = embed[token], zero where position = 0
//	x      = eh_proj · concat( rms(e; enorm), rms(h; hnorm) )
//	r      = x + o_proj · attention( rms(x; input_layernorm) )
//	hidden = r + moe( rms(r; post_attention_layernorm) )
//	logits = lm_head · rms(hidden; final_layernorm)
//
// Matrices are those of spago, one row per row of the sequence.
package reference
