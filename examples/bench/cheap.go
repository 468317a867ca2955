package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// drafting says what a head drafts with in place of lm_head as it is stored.
type drafting struct {
	format weights.Format // 0: as stored
	tokens int            // 0: all
}

// maxDraftTokens is a usual size of a draft vocabulary.
const maxDraftTokens = 32_768

// cheapDraftings lists what is cheaper to read than lm_head: 8 bits, some draft
// tokens, and both.
func cheapDraftings(vocabulary int) []drafting {
	tokens := max(min(maxDraftTokens, vocabulary/4), 1)
	return []drafting{{format: weights.INT8}, {tokens: tokens}, {weights.INT8, tokens}}
}

// appendTo adds the drafting to the name of a work.
func (d *drafting) appendTo(work string) string {
	if d.format != 0 {
		work += fmt.Sprintf(", %s lm_head", strings.ToLower(d.format.String()))
	}
	if d.tokens > 0 {
		work += fmt.Sprintf(", %d draft tokens", d.tokens)
	}
	return work
}

// draftTokens returns n tokens of a vocabulary: three quarters of them are its
// first, the others lie evenly over the rest. Of 200 064 tokens, 32 768 are all
// below 24 576 and about every 21st above. The frequent tokens of a byte-pair
// vocabulary are mostly its first, as merges are numbered in the order of their
// frequency, but by no means all, so that some rows of lm_head are read in long
// runs and some alone.
func draftTokens(vocabulary, n int) []int32 {
	tokens := make([]int32, n)
	low := n - n/4
	for i := range low {
		tokens[i] = int32(i)
	}
	for i := range n - low {
		tokens[low+i] = int32(low + i*(vocabulary-low)/(n-low))
	}
	return tokens
}

// requantizedBytes returns what a head that drafts so allocates beside the weights.
func (d *drafting) requantizedBytes(c *mtp.Config) int64 {
	if d.format == 0 {
		return 0
	}
	rows := c.VocabSize
	if d.tokens > 0 {
		rows = d.tokens
	}
	return d.format.Bytes(rows, c.HiddenSize)
}

// loadAnew loads one more head on b.device, or on a device that passes calls on to
// it. Its embed_tokens and lm_head are those of the first head, whose memory is not
// taken twice; what else it has, it adopts again where a device can.
func (b *session) loadAnew(ctx context.Context, options mtp.Options) (*mtp.Head, error) {
	progress, done := cli.Progress(b.stderr, "load once more", "bytes")
	defer done()
	options.Progress, options.Chain, options.Modules, options.CacheFormat = progress, mtp.ChainFirst, b.settings.modules, b.settings.cache
	options.Activations, options.DraftActivations = b.settings.activation, b.settings.rounding
	options.Embed = b.model.embed
	if !b.head.Config().TieWordEmbeddings {
		options.LMHead = b.model.lmHead
	}
	return mtp.LoadFS(ctx, b.source.fsys, options)
}

// measureCheap measures a work that drafts with something cheaper than lm_head, on
// a head of its own that is gone when it returns. What goes wrong with that head becomes
// the row, since the other rows are worth having without it. Only the end of ctx is an
// error.
func (b *session) measureCheap(ctx context.Context, w *work) (row, error) {
	r, err := b.cheapRow(ctx, w)
	if err != nil {
		r = row{Work: w.name, Rows: w.rows, Context: w.context, K: w.k, Error: err.Error()}
	}
	runtime.GC() // of what the head took
	return r, ctx.Err()
}

func (b *session) cheapRow(ctx context.Context, w *work) (r row, err error) {
	config := b.head.Config()
	if err := checkRequantized(w.drafting.requantizedBytes(config), b.device.Info().IsGPU(), availableMemory); err != nil {
		return row{}, err
	}
	options := b.options(mtp.Options{DraftLMHead: w.drafting.format})
	if n := w.drafting.tokens; n > 0 {
		options.DraftVocabulary = draftTokens(config.VocabSize, n)
	}
	head, err := b.loadAnew(ctx, options)
	if err != nil {
		return row{}, err
	}
	defer func() { err = errors.Join(err, head.Close()) }()
	cache, err := head.NewCache(w.pages())
	if err != nil {
		return row{}, err
	}
	if err := fillCache(b.device, cache, b.settings.cache, func(_, _ int64) {}); err != nil {
		return row{}, err
	}
	w.prepare(config, cache, rand.New(rand.NewPCG(1, 2)))
	defer func() { w.inputs = nil }()
	model := *b.model
	model.lmHead = head.DraftLMHead()
	runs, err := b.time(ctx, head, w)
	if err != nil {
		return row{}, err
	}
	moved, err := w.count(ctx, head, &model, runs)
	if err != nil {
		return row{}, err
	}
	return newRow(w, runs, moved), nil
}

// checkRequantized refuses to requantize to this size on a CPU that has less memory
// available: the operating system would end the process. Other devices return an error.
func checkRequantized(size int64, gpu bool, available func() (int64, error)) error {
	if gpu || size == 0 {
		return nil
	}
	free, err := available()
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil
	case err != nil:
		return fmt.Errorf("available memory: %w", err)
	case free < size+otherMemory/4:
		return fmt.Errorf("%w: needed %s for lm_head and %s beside it, available %s",
			errMemory, cli.FormatBytes(size), cli.FormatBytes(otherMemory/4), cli.FormatBytes(free))
	}
	return nil
}
