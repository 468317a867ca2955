package mtp

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp/internal/kernels"
)

// sum adds up partial results of rows over the ranks.
func (q *queue) sum(v values) {
	if r := q.head.ranks; r != nil {
		q.do(v.rows, func() error { return r.group.AllReduce(q.device, v.ptr, v.rows*v.width) })
	}
}

// adds reports whether this rank adds attention and the shared expert to the sum.
func (h *Head) adds() bool { return h.ranks == nil || h.ranks.leads }

// reserveRanks makes room for what ranks exchange: records of the k best tokens of rows, or
// logits in columns of c, if it is not nil.
func (w *workspace) reserveRanks(h *Head, rows, k int, c *rankColumns) error {
	r := h.ranks
	if r == nil {
		return nil
	}
	record := (kernels.RecordBytes(rows, k) + 3) / 4
	needs := []need{{&w.record, record}, {&w.gathered, record * r.group.Size()}}
	if c != nil {
		part := rows * c.widest
		needs = append(needs, need{&w.logits, part}, need{&w.gathered, part * r.group.Size()}, need{&w.joined, rows * c.width()})
	}
	return w.grow(needs...)
}

// join sets w.joined to whole rows of logits from those of all ranks.
func (h *Head) join(d hip.Device, w *workspace, rows int, c *rankColumns) error {
	g := h.ranks.group
	if err := g.AllGather(d, w.gathered.Ptr(), w.logits.Ptr(), 4*rows*c.widest); err != nil {
		return err
	}
	return kernels.JoinColumns(d, &kernels.JoinColumnsArgs{
		Out: w.joined.Ptr(), From: w.gathered.Ptr(), First: c.table,
		Rows: int32(rows), Ranks: int32(g.Size()), Width: int32(c.width()), Widest: int32(c.widest),
	})
}

// pickOverRanks is pickTokens over the logits of all ranks. check is the address of the
// call's r.plans, and differs where it says which rank has other ones.
func (h *Head) pickOverRanks(d hip.Device, w *workspace, to kernels.Picked, check, differs hip.Ptr, rows, k int) error {
	g, bytes := h.ranks.group, kernels.RecordBytes(rows, k)
	if err := w.top.Record(d, w.record.Ptr(), check, w.logits.Ptr(), h.draftHead.tokens, rows, h.draftHead.own, k); err != nil {
		return err
	}
	if err := g.AllGather(d, w.gathered.Ptr(), w.record.Ptr(), bytes); err != nil {
		return err
	}
	return kernels.MergeRanks(d, to, differs, w.gathered.Ptr(), g.Size(), rows, k)
}

// stagePlans adds r.plans to the words.
func (w *workspace) stagePlans(h *Head) (at int) {
	if h.ranks == nil {
		return 0
	}
	w.up.Align()
	plans := h.ranks.plans
	return w.up.Add([]int32{int32(plans), int32(plans >> 32)})
}

// samePlans returns an error if differs, a result of pickOverRanks, says so.
func samePlans(differs int32) error {
	if differs == 0 {
		return nil
	}
	return fmt.Errorf("ranks 0 and %d were given different batches, in this call or in one before", differs-1)
}
