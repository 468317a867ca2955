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
// A layer without experts, a dense MLP, takes the last three.
//
// # Numerics
//
// Values between launches are float32. The reference device sums each in float64 and rounds
// it once, and a row has the same bits in a batch as alone.
//
// [SwiGLU-OAI]: https://github.com/openai/gpt-oss
package moe
