// Package moe computes the mixture of experts of the MiniMax-M3 draft head: router, routed
// experts, shared expert, and their sum with the residual.
//
//	s      = sigmoid(gate · x)                                  router scores
//	pick   = the TopK largest of s + bias                       the bias only selects
//	w      = s[pick] / Σ s[pick] · Scale                        expert weights
//	expert = w2 · act(w1 · x, w3 · x)                           [SwiGLU-OAI]
//	hidden = residual + Σ_k w_k · expert_k(x) + shared(x)
//
// # How does one launch serve all picked experts?
//
// A pair is one row and one of its picks; pair = row · TopK + k. The device sorts the pairs
// by expert, so that a block reads a tile of one expert's weights once and multiplies it
// with every row that picked the expert:
//
//	ids            row 0: 5 2   row 1: 2 7        pairs 0 1 2 3
//	order          1 2 │ 0 │ 3                    pairs by expert
//	offsets        … expert 2: 0–2, 5: 2–3, 7: 3–4 …
//	active         2, 5, 7                        the experts to read
//
// [Experts.Forward] takes eight launches for any number of rows:
//
//	product (gate) → route → group_by_expert → experts_gate_up → experts_down
//	gate_up_swiglu → product (down) → moe_combine
//
// A layer without experts, a dense MLP, takes the last three. Where Config.Activations rounds
// rows, quantize_mxfp8 goes before each of the four products of experts.
//
// # What does a rank of a parallel layer compute?
//
// A part of the sum, by the same launches and from the same x. Each rank has the whole
// router and picks among all experts, so ids and weights are those of one rank. Then
//
//   - whole experts are dealt: a rank holds HeldExperts of them from FirstExpert on. Picks
//     of others cost it nothing, and a row that picked none of its own gets routed = 0;
//   - or columns are cut: a rank's Intermediate is its part of each expert's, with the rows
//     of w1 and w3 and the columns of w2 that belong to it;
//   - or both. The shared expert is cut by columns likewise (SharedIntermediate), or all
//     ranks but one leave it out (SharedIntermediate 0).
//
// Every column of every expert must be on one rank, and on that alone, and one rank must add
// the residual: the others pass none. What [Experts.Forward] gives on the ranks then adds up
// to what it gives on one rank that holds everything, but for the order of the sums.
//
// # Numerics
//
// Values between launches are float32. The reference device sums each in float64 and rounds
// it once, and a row has the same bits in a batch as alone.
//
// [SwiGLU-OAI]: https://github.com/openai/gpt-oss
package moe
