// Package sampling draws tokens on a device, and decides which drafts a sampling target
// confirms. Probabilities are whole numbers, so that their sums are exact and neither the
// device nor its order of adding changes a result:
//
//	weight  f = e^((logit − largest) / temperature), rounded to float32; 0 below 2^−43
//	whole   W = round(2^42 · f)
//	p       = W ÷ the sum of W over the tokens that the filters leave
//
// The steps, each a kernel with its twin:
//
//	sample_allow    logits of tokens that a mask excludes become −∞
//	sample_weights  the weights of rows of logits
//	sample_filter   the lowest weight that min-p, top-k and top-p leave; sums of what is left.
//	                On a GPU the parts of a long row are searched together: sample_filter_bins
//	                and sample_filter_narrow
//	sample_list     a row's tokens with their weights, at most [MaxList], and one drawn from them
//	sample_decide   how many drafts are accepted, by standard or by block verification
//	sample_draw     the token after them
//
// Random numbers are those of Philox 4×32-10, of which each draw has its own counter.
package sampling
