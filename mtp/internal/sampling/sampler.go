package sampling

import (
	"errors"
	"math"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
)

// Sampler queues the kernels. It holds what they hand on, and serves one call at a time.
// The zero Sampler is ready for use.
type Sampler struct {
	weights, largest, least, sums hip.Buffer
	chances, scales               hip.Buffer
	bins, states                  hip.Buffer // of a filter that is split
}

// Free gives the memory back.
func (s *Sampler) Free(d hip.Device) error {
	return errors.Join(s.weights.Free(d), s.largest.Free(d), s.least.Free(d), s.sums.Free(d), s.chances.Free(d), s.scales.Free(d), s.bins.Free(d), s.states.Free(d))
}

// Allow sets out to exclude tokens from rows of logits: they get −∞, or 0 if they are
// probabilities. Each mask has a bit for every token, words words of 32; rows are the masks'
// own. tokens is the token of each logit; 0: its index.
func Allow(d hip.Device, logits hip.Ptr, allowed, rows, tokens hip.Ptr, logitRows, masks, vocab, words int, probabilities bool) error {
	a := &sampleAllowArgs{
		Logits: logits, Allowed: allowed, Rows: rows, Tokens: tokens,
		LogitRows: int32(logitRows), Masks: int32(masks), Vocab: int32(vocab), Words: int32(words), Excluded: float32(math.Inf(-1)),
	}
	if probabilities {
		a.Excluded = 0
	}
	return allow.Launch(d, hip.Grid{Blocks: masks * partsOf(vocab), BlockCost: 4 * part}, a)
}

// weigh sets out to the weights of rows of logits, and to the least that the filters leave.
func (s *Sampler) weigh(d hip.Device, to, logits, params hip.Ptr, rows, vocab, most int) error {
	parts := partsOf(vocab)
	a := &sampleWeightsArgs{
		Logits: logits, Weights: to, Largest: s.largest.Ptr(), Params: params,
		Rows: int32(rows), Vocab: int32(vocab), Parts: int32(parts),
	}
	grid := hip.Grid{Blocks: rows * parts, BlockCost: 16 * part}
	if err := errors.Join(weightsMax.Launch(d, grid, a), weights.Launch(d, grid, a)); err != nil {
		return err
	}
	if splits(d, vocab) {
		return s.launchSplit(d, sampleFilterSplitArgs{
			Weights: to, Params: params, State: s.states.Ptr(), Bins: s.bins.Ptr(), Least: s.least.Ptr(),
			Rows: int32(rows), Vocab: int32(vocab), Parts: int32(parts), Most: int32(most),
		})
	}
	return filter.Launch(d, hip.Grid{Blocks: rows, BlockCost: 32 * vocab}, &sampleFilterArgs{
		Weights: to, Params: params, Least: s.least.Ptr(),
		Rows: int32(rows), Vocab: int32(vocab), Parts: int32(parts), Most: int32(most),
	})
}

// splits reports whether several blocks look at a row's weights together.
func splits(d hip.Device, vocab int) bool { return d.Info().IsGPU() && partsOf(vocab) > 1 }

// growSplit makes room for a filter that is split.
func (s *Sampler) growSplit(d hip.Device, rows, vocab int) error {
	if !splits(d, vocab) {
		return nil
	}
	return errors.Join(s.bins.Grow(d, rows*partsOf(vocab)*bins, 8), s.states.Grow(d, rows, int(unsafe.Sizeof(filterState{}))))
}

// Listed is where List leaves its results: the most likely token of each row and its
// probability, which a drawn one replaces, and the list it was drawn from, [rows, most].
type Listed struct {
	IDs, Probabilities hip.Ptr // int32, float32
	Counts             hip.Ptr // int32
	ListIDs            hip.Ptr // int32; −1 after the last
	ListWeights        hip.Ptr // float32
}

// GrowList makes room for List.
func (s *Sampler) GrowList(d hip.Device, rows, vocab int) error {
	return errors.Join(s.growSplit(d, rows, vocab), s.weights.Grow(d, rows*vocab, 4), s.largest.Grow(d, rows*partsOf(vocab), 4), s.least.Grow(d, rows, 4))
}

// List sets out to draw a token for each row of logits from its at most most likely ones,
// most ≤ [MaxList]. params are [rows] Params. GrowList comes first.
func (s *Sampler) List(d hip.Device, out Listed, logits, tokens, params hip.Ptr, rows, vocab, most int) error {
	if err := s.weigh(d, s.weights.Ptr(), logits, params, rows, vocab, most); err != nil {
		return err
	}
	return list.Launch(d, hip.Grid{Blocks: rows, BlockCost: 8 * vocab}, &sampleListArgs{
		Logits: logits, Weights: s.weights.Ptr(), Largest: s.largest.Ptr(), Least: s.least.Ptr(), Params: params, Tokens: tokens,
		IDs: out.IDs, Probabilities: out.Probabilities, Counts: out.Counts, ListIDs: out.ListIDs, ListWeights: out.ListWeights,
		Rows: int32(rows), Vocab: int32(vocab), Parts: int32(partsOf(vocab)), Most: int32(most),
	})
}

// Chains are drafts to verify, chain by chain. A chain has one row of logits more than
// drafts.
type Chains struct {
	Params      hip.Ptr // [rows] Params
	First       hip.Ptr // [chains + 1] int32: the first row of each
	Block       hip.Ptr // [chains] int32: 1 for block verification
	Tokens      hip.Ptr // [rows − chains] int32: the drafts
	ListAt      hip.Ptr // [rows − chains + 1] int32: where the list of each draft begins
	ListIDs     hip.Ptr // [listed] int32: ascending in each list
	ListWeights hip.Ptr // [listed] float32

	Accepted hip.Ptr // [chains] int32, a result; −1: a row is not a distribution
	Next     hip.Ptr // [chains] int32, a result

	Rows, Chains, Listed int
}

// GrowVerify makes room for Verify.
func (s *Sampler) GrowVerify(d hip.Device, rows, vocab, chains int) error {
	parts := partsOf(vocab)
	return errors.Join(
		s.growSplit(d, rows, vocab), s.largest.Grow(d, rows*parts, 4), s.least.Grow(d, rows, 4), s.sums.Grow(d, rows*parts, 8),
		s.chances.Grow(d, rows, 8), s.scales.Grow(d, chains, 8),
	)
}

// Verify sets out to decide which drafts are accepted, and to draw the token after them. It
// makes weights of the logits, in place. GrowVerify comes first.
func (s *Sampler) Verify(d hip.Device, c *Chains, logits hip.Ptr, vocab int) error {
	if err := s.weigh(d, logits, logits, c.Params, c.Rows, vocab, 0); err != nil {
		return err
	}
	return s.verify(d, c, logits, vocab)
}

// verify is Verify of rows of weights.
func (s *Sampler) verify(d hip.Device, c *Chains, weights hip.Ptr, vocab int) error {
	parts := partsOf(vocab)
	err := filterSums.Launch(d, hip.Grid{Blocks: c.Rows * parts, BlockCost: 4 * part}, &sampleFilterArgs{
		Weights: weights, Params: c.Params, Least: s.least.Ptr(), Sums: s.sums.Ptr(),
		Rows: int32(c.Rows), Vocab: int32(vocab), Parts: int32(parts),
	})
	a := &sampleVerifyArgs{
		Weights: weights, Least: s.least.Ptr(), Sums: s.sums.Ptr(), Params: c.Params, First: c.First, Block: c.Block,
		Tokens: c.Tokens, ListAt: c.ListAt, ListIDs: c.ListIDs, ListWeights: c.ListWeights,
		Chances: s.chances.Ptr(), Scales: s.scales.Ptr(), Accepted: c.Accepted, Next: c.Next,
		Rows: int32(c.Rows), Vocab: int32(vocab), Parts: int32(parts), Chains: int32(c.Chains), Listed: int32(c.Listed),
	}
	grid := hip.Grid{Blocks: c.Chains, BlockCost: 16 * part}
	return errors.Join(err, decide.Launch(d, grid, a), drawNext.Launch(d, grid, a))
}
