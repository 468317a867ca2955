package attention_test

import (
	"fmt"
	"log"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
)

// One attention layer from scratch: seven tokens of a sequence, of which the last attends
// to two blocks of keys only. Queries and keys are zero here, so that what a row gets is
// the mean of the values that it sees, and the value of a position is its number.
func Example() {
	d := hip.NewHost()
	defer d.Close()
	g := attention.Geometry{
		Heads: 2, KVHeads: 1, HeadDim: 4, IndexDim: 4,
		BlockSize: 2, TopkBlocks: 2, LocalBlocks: 1, Eps: 1e-6,
		Rope: attention.Rope{Frequencies: []float64{1}, AttentionFactor: 1, Positions: 1024},
	}
	cache, err := attention.NewCache(d, g, 1, 8, attention.CacheBF16) // one layer, 8 pages
	check(err)
	defer cache.Close()
	batch := attention.NewBatch(cache)
	defer batch.Close()
	seq := cache.NewSequence()
	defer seq.Close()

	// What a model has learned: norms of weight 0 leave directions as they are.
	norm := upload(d, make([]float32, 4))
	params := attention.Params{QNorm: norm, KNorm: norm, IndexQNorm: norm, IndexKNorm: norm}

	// What the fused projection made of the tokens: q, k, v, index_q, index_k of each. The
	// last index query looks for the index keys of positions 2 and 3, which are block 1.
	const rows = 7
	var projected []float32
	for p := range rows {
		v, indexQ, indexK := float32(p), []float32{0, 0, 1, 0}, []float32{0, 0, 0, 1}
		if p == 2 || p == 3 {
			indexK = indexQ
		}
		projected = append(projected, make([]float32, 3*4)...) // two query heads and a key
		projected = append(projected, v, v, v, v)
		projected = append(projected, indexQ...)
		projected = append(projected, indexK...)
	}
	qkv := upload(d, projected)

	tx, err := cache.Begin(attention.Claim{Sequence: seq, From: 0, To: rows})
	check(err)
	defer tx.Rollback() // nothing after Commit
	span, err := tx.Span(0, 0, 0, rows)
	check(err)
	check(batch.Upload(span))

	scores := upload(d, make([]float32, rows*g.KVHeads*batch.Blocks()))
	selected := upload(d, make([]int32, rows*g.KVHeads*g.TopkBlocks))
	out := upload(d, make([]float32, rows*g.Heads*g.HeadDim))
	check(attention.Insert(batch, 0, qkv, params))
	check(attention.Scores(batch, 0, qkv, scores))
	check(attention.Select(batch, scores, selected))
	check(attention.Attend(batch, 0, qkv, selected, out))
	check(tx.Commit())

	blocks, context := make([]int32, rows*2), make([]float32, rows*2*4)
	check(hip.ReadOf(d, blocks, selected))
	check(hip.ReadOf(d, context, out))
	for row := range rows {
		fmt.Printf("position %d: blocks %2d, mean %.1f\n", row, blocks[2*row:][:2], context[8*row])
	}
	fmt.Println(seq.Len(), "positions,", cache.FreePages(), "pages free")
	// Output:
	// position 0: blocks [ 0 -1], mean 0.0
	// position 1: blocks [ 0 -1], mean 0.5
	// position 2: blocks [ 0  1], mean 1.0
	// position 3: blocks [ 0  1], mean 1.5
	// position 4: blocks [ 1  2], mean 3.0
	// position 5: blocks [ 1  2], mean 3.5
	// position 6: blocks [ 1  3], mean 3.7
	// 7 positions, 4 pages free
}

// A draft writes rows that it does not keep. The fork shares pages until it writes.
func ExampleCache_Begin() {
	d := hip.NewHost()
	defer d.Close()
	g := attention.Geometry{
		Heads: 1, KVHeads: 1, HeadDim: 2, IndexDim: 2, BlockSize: 4, TopkBlocks: 1,
		Rope: attention.Rope{Positions: 1024},
	}
	cache, err := attention.NewCache(d, g, 1, 5, attention.CacheF32)
	check(err)
	defer cache.Close()
	seq := cache.NewSequence()
	write := func(s *attention.Sequence, rows, spare int) {
		from := s.Len()
		tx, err := cache.Begin(attention.Claim{Sequence: s, From: from, To: from + rows, Spare: spare})
		check(err)
		defer tx.Rollback()
		fmt.Printf("begin at %d: room for %d + %d, pages %d\n", from, rows, tx.Spare(0), s.BlockTable())
		// Here one pass writes the rows for good, and later ones the spare rows.
		check(tx.Commit())
		fmt.Printf("commit: %d positions, pages %d, %d free\n", s.Len(), s.BlockTable(), cache.FreePages())
	}
	write(seq, 6, 3)
	fork, err := seq.Fork()
	check(err)
	write(fork, 1, 9)
	write(seq, 1, 9)
	// Output:
	// begin at 0: room for 6 + 3, pages [0 1 2]
	// commit: 6 positions, pages [0 1], 3 free
	// begin at 6: room for 1 + 9, pages [0 2 3 4]
	// commit: 7 positions, pages [0 2], 2 free
	// begin at 6: room for 1 + 9, pages [0 1 4 3]
	// commit: 7 positions, pages [0 1], 2 free
}

// upload copies values to memory of the device, which frees it at Close.
func upload[T any](d hip.Device, values []T) hip.Ptr {
	p, err := hip.Upload(d, values)
	check(err)
	return p
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
