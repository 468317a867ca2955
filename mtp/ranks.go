package mtp

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/moe"
)

// ranks is what a rank of a parallel head knows of the others. A step of theirs:
//
//	embedding, eh_proj, norms       on every rank, from the same bytes
//	attention, o_proj               a rank's heads            all-reduce
//	experts, shared expert          a rank's experts, columns  all-reduce
//	lm_head                         a rank's rows             all-gather of its best tokens
//
// What all ranks compute they compute from the same bytes with the same kernels, so that
// they draft the same tokens.
type ranks struct {
	mu    sync.Mutex // held by a call: all ranks make the same ones, in the same order
	group *hip.Group

	leads  bool        // adds attention and the shared expert, of which others hold copies
	lmHead rankColumns // of logits

	plans uint64 // a hash of all calls since the group was formed
}

// rankColumns says which columns of rows of logits each rank has.
type rankColumns struct {
	first  []int32 // of each rank, and their number
	table  hip.Ptr // the same in device memory
	widest int
}

func newRankColumns(d hip.Device, widths []int) (c rankColumns, err error) {
	c.first = []int32{0}
	for _, n := range widths {
		c.first, c.widest = append(c.first, c.first[len(c.first)-1]+int32(n)), max(c.widest, n)
	}
	c.table, err = hip.Upload(d, c.first)
	return c, err
}

// width returns the number of columns of all ranks.
func (c *rankColumns) width() int { return int(c.first[len(c.first)-1]) }

// groupRanks returns the ranks of the options' group, nil if there is only one.
func (o *Options) groupRanks() *ranks {
	if o.Group == nil || o.Group.Size() == 1 {
		return nil
	}
	p := o.parallel()
	return &ranks{group: o.Group, leads: !p.grid || p.expert.Rank == 0}
}

// checkGroup refuses shares that do not fit the group.
func (o *Options) checkGroup() error {
	if o.Group == nil {
		return nil
	}
	p := o.parallel()
	tensor, expert, size := max(1, p.tensor.Size), max(1, p.expert.Size), o.Group.Size()
	if tensor*expert != size && !(tensor == size && expert == size) {
		return refuse("Options.Group", fmt.Sprintf("of %d ranks", size),
			fmt.Sprintf("%d, TensorParallel.Size × ExpertParallel.Size, or %d where both are that", tensor*expert, size), nil)
	}
	return nil
}

const meetBytes = 16 + sha256.Size

// meet compares this rank with the others: they must run the same head, each with a share
// of its own.
func (h *Head) meet(ctx context.Context) error {
	p := h.options.parallel()
	own := make([]byte, 0, meetBytes)
	for _, n := range []int{p.tensor.Rank, p.tensor.Size, p.expert.Rank, p.expert.Size} {
		own = binary.LittleEndian.AppendUint32(own, uint32(n))
	}
	o := &h.options
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v %+v %d %d %d %d %s %d %t %d %d %d %v %v", h.config.Attention, h.config.MoE, h.config.HiddenSize,
		h.config.VocabSize, h.config.NumMTPModules, h.config.shareBlock, h.chain, o.CacheFormat, o.PostNorm, h.alignedSteps(), o.mostRows(), o.DraftLMHead, o.DraftVocabulary, o.DraftActivations))
	own = append(own, sum[:]...)

	stop := h.ranks.group.Watch(ctx)
	all, err := h.ranks.group.Exchange(own)
	failed := stop()
	if err != nil {
		return fmt.Errorf("mtp: %w", cmp.Or(failed, err))
	}
	seen := make(map[string]int)
	for rank, other := range all {
		shares := string(other[:16])
		if before, again := seen[shares]; again {
			return refuse("Options.TensorParallel and ExpertParallel", fmt.Sprintf("the same on ranks %d and %d", before, rank), "another share on every rank", nil)
		}
		seen[shares] = rank
		sizes := func(b []byte) []byte { return slices.Concat(b[4:8], b[12:16]) }
		if !slices.Equal(sizes(other), sizes(own)) {
			return refuse("Options.TensorParallel and ExpertParallel", fmt.Sprintf("of other sizes than on rank %d", rank), "the same sizes on all ranks", nil)
		}
		if !slices.Equal(other[16:], own[16:]) {
			return refuse("Options.Group", fmt.Sprintf("rank %d with another config or other options", rank), "the same head on all ranks", nil)
		}
	}
	if failed != nil {
		return fmt.Errorf("mtp: %w", failed)
	}
	return nil
}

// Regroup gives a rank of a parallel head a new group in the place of one that has failed,
// of the same size and with the same ranks. All ranks call it. It waits for calls under
// way. Rows that only some ranks have committed make their sequences differ: truncate those
// on every rank to what all have, or begin them anew. The old group may be closed then.
func (h *Head) Regroup(ctx context.Context, group *hip.Group) error {
	if group == nil {
		return refuse("Group", "nil", "a group", nil)
	}
	h.using.Lock()
	defer h.using.Unlock()
	switch {
	case h.closed:
		return closed("head")
	case h.ranks == nil:
		return refuse("Head", "whole", "a rank of a parallel head", nil)
	case group.Size() != h.ranks.group.Size() || group.Rank() != h.ranks.group.Rank():
		return refuse("Group", fmt.Sprintf("rank %d of %d", group.Rank(), group.Size()),
			fmt.Sprintf("rank %d of %d", h.ranks.group.Rank(), h.ranks.group.Size()), nil)
	}
	var errs []error
	for _, w := range h.workspaces { // their graphs hold operations of the group
		errs = append(errs, w.settle(), w.replay.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	h.ranks.group, h.ranks.plans = group, 0
	h.options.Group = group
	return h.meet(ctx)
}

// loadFailed ends the group, so that no rank waits for one that cannot load.
func (o *Options) loadFailed(err error) {
	if o.Group != nil && o.Group.Size() > 1 {
		o.Group.Abort(fmt.Errorf("rank %d did not load: %w", o.Group.Rank(), err))
	}
}

// buildRanks makes what a rank of a parallel head needs: its rows of lm_head.
func (h *Head) buildRanks() (err error) {
	group := h.options.parallel().group
	widths := make([]int, group.Size)
	for rank := range widths {
		widths[rank] = Shard{rank, group.Size}.rows(h.config.VocabSize).Len()
	}
	if h.ranks.lmHead, err = newRankColumns(h.device, widths); err != nil {
		return err
	}
	own := group.rows(h.config.VocabSize)
	switch {
	case own.Len() == 0:
		h.lmHead = nil
	case h.lmHead != nil && h.lmHead.Rows == h.config.VocabSize && own.Len() < h.config.VocabSize: // embed_tokens, or an engine's
		var rows []int32
		for r := own[0]; r < own[1]; r++ {
			rows = append(rows, int32(r))
		}
		if h.lmHead, err = h.lmHead.Select(h.device, rows); err != nil {
			return err
		}
		h.draftHead.made = append(h.draftHead.made, h.lmHead)
	}
	return nil
}

// expertsOf returns the experts of a rank.
func (h *Head) expertsOf(s shares) moe.Config {
	c := h.config.MoE
	c.Activations = h.options.Activations
	c.Intermediate = s.intermediate.Len()
	if c.SharedIntermediate = s.shared.Len(); !h.adds() {
		c.SharedIntermediate = 0
	}
	if n := s.experts.Len(); n < c.Experts {
		c.FirstExpert, c.HeldExperts = s.experts[0], n
	}
	return c
}
