package kernels

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// Over the ranks of a parallel head, each of which has the logits of some tokens, the K
// largest of a row are picked in two more steps: each rank makes a record of its own
// largest ones, and once every rank has all records, each merges them.
//
//	record    check          uint64, what must be the same on all ranks
//	          sums           [Rows] float64: Σ exp(logit − largest of the rank)
//	          largest        [Rows, K] float32, in descending order
//	          ids            [Rows, K] int32; −1 where the rank has fewer
var (
	topkRecord     = hip.NewKernel("topk_ranks_record", topkSource()+topkRanksHIP, topkRecordTwin).Block(mergeThreads)
	topkMergeRanks = hip.NewKernel("topk_ranks_merge", topkSource()+topkRanksHIP, topkMergeRanksTwin).Block(mergeThreads)
)

// RecordBytes is the size of a record.
func RecordBytes(rows, k int) int { return 8 + 8*rows + 8*rows*k }

// Record sets record to the k largest of each of the rows of this rank's vocab logits;
// vocab may be 0. tokens is the token of each logit, ascending, and check 8 bytes. Grow
// comes first.
func (t *TopK) Record(d hip.Device, record, check, logits, tokens hip.Ptr, rows, vocab, k int) error {
	parts := topkPartsOf(vocab)
	a := &topkRecordArgs{Record: record, Check: check, Rows: int32(rows), Vocab: int32(vocab), Parts: int32(parts), K: int32(k)}
	if vocab > 0 {
		if err := t.args(logits, rows, vocab, k).launchParts(d); err != nil {
			return err
		}
		a.Largest, a.Index, a.Sums, a.Tokens = t.largest.Ptr(), t.index.Ptr(), t.sums.Ptr(), tokens
	}
	return topkRecord.Launch(d, hip.Grid{Blocks: rows, BlockCost: 16 * parts * k}, a)
}

// MergeRanks sets out to the k largest of each row over the records of all ranks, end to
// end. differs gets 0, or 1 + the first rank whose check is not that of rank 0.
func MergeRanks(d hip.Device, out Picked, differs, records hip.Ptr, ranks, rows, k int) error {
	return topkMergeRanks.Launch(d, hip.Grid{Blocks: rows, BlockCost: 16 * ranks * k}, &topkMergeRanksArgs{
		Records: records, IDs: out.IDs, Probabilities: out.Probabilities, Differs: differs,
		Rows: int64(rows), Ranks: int32(ranks), K: int32(k),
	})
}

type topkRecordArgs struct {
	Largest     hip.Ptr // as topkArgs has them; none without logits
	Index       hip.Ptr
	Sums        hip.Ptr
	Tokens      hip.Ptr // [Vocab] int32
	Check       hip.Ptr // 8 bytes
	Record      hip.Ptr
	Rows, Vocab int32
	Parts, K    int32
}

type topkMergeRanksArgs struct {
	Records       hip.Ptr // [Ranks] records
	IDs           hip.Ptr // [Rows, K] int32
	Probabilities hip.Ptr // [Rows, K] float32
	Differs       hip.Ptr // int32
	Rows          int64
	Ranks, K      int32
}

// recordOf is a record in device memory, opened for reading or for writing.
type recordOf struct {
	check   []uint64
	sums    []float64
	largest []float32
	ids     []int32
}

func outRecord(b *hip.Blocks, at hip.Ptr, rows, k int) recordOf {
	sums := at.Add(8)
	largest := sums.Add(8 * int64(rows))
	return recordOf{
		hip.Out[uint64](b, at, 1), hip.Out[float64](b, sums, rows),
		hip.Out[float32](b, largest, rows*k), hip.Out[int32](b, largest.Add(4*int64(rows*k)), rows*k),
	}
}

func inRecord(b *hip.Blocks, at hip.Ptr, rows, k int) recordOf {
	sums := at.Add(8)
	largest := sums.Add(8 * int64(rows))
	return recordOf{
		hip.In[uint64](b, at, 1), hip.In[float64](b, sums, rows),
		hip.In[float32](b, largest, rows*k), hip.In[int32](b, largest.Add(4*int64(rows*k)), rows*k),
	}
}

func topkRecordTwin(b *hip.Blocks, a *topkRecordArgs) {
	rows, parts, k := int(a.Rows), int(a.Parts), int(a.K)
	largest, index := hip.In[float32](b, a.Largest, rows*parts*k), hip.In[int32](b, a.Index, rows*parts*k)
	sums, tokens := hip.In[float64](b, a.Sums, rows*parts), hip.In[int32](b, a.Tokens, int(a.Vocab))
	check, r := hip.In[uint64](b, a.Check, 1), outRecord(b, a.Record, rows, k)
	for row := b.First; row < b.End; row++ {
		if row == 0 {
			r.check[0] = check[0]
		}
		best := ranking{values: r.largest[row*k : (row+1)*k], index: r.ids[row*k : (row+1)*k]}
		for i := row * parts * k; i < (row+1)*parts*k; i++ {
			if index[i] >= 0 {
				best.offer(largest[i], index[i])
			}
		}
		sum := 0.0
		for part := row * parts; part < (row+1)*parts; part++ {
			sum += sums[part] * weightOf(largest[part*k], best.values[0])
		}
		r.sums[row] = sum
		for i := range k {
			if i >= best.count {
				best.values[i], best.index[i] = float32(math.NaN()), -1
			} else {
				best.index[i] = tokens[best.index[i]]
			}
		}
	}
}

func topkMergeRanksTwin(b *hip.Blocks, a *topkMergeRanksArgs) {
	ranks, rows, k := int(a.Ranks), int(a.Rows), int(a.K)
	records := make([]recordOf, ranks)
	for rank := range records {
		records[rank] = inRecord(b, a.Records.Add(int64(rank)*int64(RecordBytes(rows, k))), rows, k)
	}
	ids, probabilities := hip.Out[int32](b, a.IDs, rows*k), hip.Out[float32](b, a.Probabilities, rows*k)
	differs := hip.Out[int32](b, a.Differs, 1)
	values := hip.Scratch[float32](b, k)
	for row := b.First; row < b.End; row++ {
		if row == 0 {
			differs[0] = 0
			for rank := ranks - 1; rank > 0; rank-- {
				if records[rank].check[0] != records[0].check[0] {
					differs[0] = int32(1 + rank)
				}
			}
		}
		best := ranking{values: values, index: ids[row*k : (row+1)*k]}
		for _, r := range records {
			for i := row * k; i < (row+1)*k; i++ {
				if r.ids[i] >= 0 {
					best.offer(r.largest[i], r.ids[i])
				}
			}
		}
		sum := 0.0
		for _, r := range records {
			if r.ids[row*k] >= 0 {
				sum += r.sums[row] * weightOf(r.largest[row*k], values[0])
			}
		}
		for i := range best.count {
			probabilities[row*k+i] = float32(weightOf(values[i], values[0]) / sum)
		}
	}
}
