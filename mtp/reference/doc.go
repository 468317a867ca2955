// Package reference computes the MiniMax-M3 draft head as its formulas say, in float64.
// Read it beside the model's definition, and compare other implementations with it.
//
// It runs one sequence, keeps no cache and has no kernels: it computes again from the given
// rows whatever a layer has seen. It shares no decoder, no product and no selection with
// the rest of the library, so that agreement means something; it shares only the config,
// the rotary frequencies, the names of cache formats, the safetensors reader and hip.InputError. It holds the weights
// of all modules decoded, 8 bytes an element: use it for the checkpoints of tests, not for
// one of the released size.
//
// In the formulas W·x multiplies a row x by a stored weight W of shape [out, in]. The
// forward of module i, with functions of the same names in this package:
//
//	e      = embed[token], zero where position = 0
//	x      = eh_proj · concat( rms(e; enorm), rms(h; hnorm) )
//	r      = x + o_proj · attention( rms(x; input_layernorm) )
//	hidden = r + moe( rms(r; post_attention_layernorm) )
//	logits = lm_head · rms(hidden; final_layernorm)
//
// Matrices are those of spago, one row per row of the sequence.
package reference
