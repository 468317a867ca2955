package attention

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// rowsTogether is how many rows are rated over the same keys before the next
// keys, so that rows of one sequence find them in the cache.
const rowsTogether = 64

// indexScorer rates blocks of keys with vector instructions, four index heads at
// a time (see bestScoresBF16AVX512). It serves all of a worker's parts of a launch.
type indexScorer struct {
	b    *hip.Blocks
	a    *scoresArgs
	simd hip.SIMD
	rows rowsView

	dim, padded int             // padded: to whole vectors
	quads       int             // of heads
	inPlace     bool            // stored keys are read as they lie, codes of F8_E4M3 as bfloat16
	queries     []float32       // [rows, quads] in bestScores' order
	keys        []float32       // [BlockSize, padded]: keys that are not read in place
	converted   []convertedKeys // of a chunk of pages in F8_E4M3, for all rows
	best        []float32       // [quads·4]
	out         [][]float32     // [rows of a tile, heads] of the blocks of a chunk
	tiles       *tileScorer     // nil: none
}

// scoresVector takes the launch's blocks in another order than the twin, all rows of a
// chunk of keys before the next chunk: block = chunk·Rows + row.
func scoresVector(b *hip.Blocks, a *scoresArgs) {
	s := hip.Keep(b, func() *indexScorer { return newIndexScorer(b, a) })
	s.b = b
	rows := int(a.Rows)
	for first := 0; first < rows; first += rowsTogether {
		last := min(first+rowsTogether, rows)
		for chunk := b.First / rows; chunk <= (b.End-1)/rows; chunk++ {
			// The launch's blocks among these rows and the chunk.
			from, to := max(first, b.First-chunk*rows), min(last, b.End-chunk*rows)
			for row := from; row < to; row++ {
				s.rate(row, chunk*int(a.ChunkBlocks))
			}
			if s.tiles != nil {
				s.tiles.rate(from, to, chunk*int(a.ChunkBlocks))
			}
		}
	}
}

// newIndexScorer lays out the queries of all rows.
func newIndexScorer(b *hip.Blocks, a *scoresArgs) *indexScorer {
	dim, quads := int(a.IndexDim), (int(a.IndexHeads)+3)/4
	whole := 32
	if element(a.Format) == CacheF32 {
		whole = 16
	}
	padded := ceilDiv(dim, whole) * whole
	s := &indexScorer{
		b: b, a: a, simd: b.SIMD(), rows: viewRows(b, a.Batch, batchSize{a.Rows, a.Sequences, a.TableEntries, a.PresenceWords}),
		dim: dim, padded: padded, quads: quads, inPlace: dim == padded,
		queries: hip.Scratch[float32](b, int(a.Rows)*quads*4*padded), best: hip.Scratch[float32](b, quads*4),
		out: make([][]float32, tileRows*int(a.IndexHeads)),
	}
	for row := range int(a.Rows) {
		s.setQueries(row, s.of(row))
	}
	if !s.inPlace {
		s.keys = hip.Scratch[float32](b, int(a.BlockSize)*padded)
		clear(s.keys) // of which columns past dim stay zero
	}
	if s.inPlace && element(a.Format) == CacheFP8 {
		s.converted = make([]convertedKeys, a.ChunkBlocks)
		for k := range s.converted {
			s.converted[k] = convertedKeys{page: -1, words: hip.Scratch[hip.BF16](b, int(a.BlockSize)*dim)}
		}
	}
	if s.simd == hip.SIMDAMX && s.inPlace && element(a.Format) != CacheF32 && a.BlockSize%64 == 0 {
		s.tiles = newTileScorer(s)
	}
	return s
}

// of returns the queries of a row.
func (s *indexScorer) of(row int) []float32 {
	n := s.quads * 4 * s.padded
	return s.queries[row*n : (row+1)*n]
}

// setQueries lays out a row's index queries: see bestScoresBF16AVX512 and
// bestScoresF32AVX512. Heads and columns that are not there are zero.
func (s *indexScorer) setQueries(row int, dst []float32) {
	heads := int(s.a.IndexHeads)
	q := hip.In[float32](s.b, s.a.IndexQ.Add(int64(row)*s.a.Stride*4), heads*s.dim)
	if s.quads*4 != heads || s.dim != s.padded {
		clear(dst)
	}
	evenAndOdd := s.inPlace && element(s.a.Format) != CacheF32
	for h := range heads {
		quad := dst[h/4*4*s.padded:][:4*s.padded]
		for d, v := range q[h*s.dim : (h+1)*s.dim] {
			if evenAndOdd {
				quad[d/32*128+d%2*64+h%4*16+d%32/2] = v
			} else {
				quad[d/16*64+h%4*16+d%16] = v
			}
		}
	}
}

// openScores views the scores of a row for a chunk of blocks in out, by head.
func (s *indexScorer) openScores(out [][]float32, row, first int) {
	heads, blocks := int64(s.a.IndexHeads), int64(s.a.ScoreBlocks)
	n := min(int(s.a.ChunkBlocks), int(blocks)-first)
	for h := range out {
		at := (int64(row)*heads+int64(h))*blocks + int64(first)
		out[h] = hip.Out[float32](s.b, s.a.Scores.Add(at*4), n)
	}
}

// rate sets the scores of a row for the chunk of blocks that begins at first, except the
// blocks that tiles rate.
func (s *indexScorer) rate(row, first int) {
	size := int(s.a.BlockSize)
	out := s.out[:s.a.IndexHeads]
	s.openScores(out, row, first)
	c := s.rows.context(row)
	var next vectors
	for k := range out[0] {
		if s.tiles != nil && s.tiles.takes(&c, first+k) {
			continue
		}
		keys := next
		if keys.len() == 0 {
			keys = s.block(&c, first+k)
		}
		next = s.block(&c, first+k+1)
		if keys.fp8 != nil && s.inPlace {
			keys = s.inPlaceOf(keys, k, c.table[first+k])
		}
		for h := range s.best {
			s.best[h] = float32(math.Inf(-1))
		}
		for at := 0; at < keys.len(); {
			from, to := c.run((first+k)*size, at, keys.len())
			if from < to {
				s.join(s.of(row), keys.slice(from, to), next)
			}
			at = to
		}
		for h := range out {
			out[h][k] = s.best[h]
		}
	}
}

// convertedKeys is what there is of a page's codes as bfloat16.
type convertedKeys struct {
	page  int32 // −1: none
	n     int   // values that are converted
	words []hip.BF16
}

// inPlaceOf returns the keys of a page, which are those of block k of the chunk, as
// bfloat16. Codes are converted once for all rows.
func (s *indexScorer) inPlaceOf(keys vectors, k int, page int32) vectors {
	if keys.fp8 == nil {
		return keys
	}
	c, n := &s.converted[k], len(keys.fp8)
	if c.page != page || c.n < n {
		widenFP8(s.simd, &c.words[0], &keys.fp8[0], n)
		c.page, c.n = page, n
	}
	return vectors{dim: keys.dim, bf16: c.words[:n]}
}

// block returns the keys of a block that are not after the row, none past its
// context.
func (s *indexScorer) block(c *rowContext, block int) vectors {
	visible := c.keys(block, int(s.a.BlockSize))
	if visible == 0 {
		return vectors{}
	}
	return readVectors(s.b, s.a.IndexKeys, element(s.a.Format), s.dim, int64(c.table[block])*int64(s.a.BlockSize), visible)
}

// join raises the best scores to those of keys. A NaN stays: nothing is larger.
func (s *indexScorer) join(queries []float32, keys, next vectors) {
	args := bestScoresArgs{Dim: s.padded, Keys: keys.len(), Next: next.address()}
	if args.Next == 0 {
		args.Next = keys.address()
	}
	switch {
	case !s.inPlace:
		for i := range keys.len() {
			row := s.keys[i*s.padded:][:s.dim]
			copy(row, keys.at(i, row))
		}
		args.F32 = &s.keys[0]
	case keys.bf16 != nil:
		args.BF16 = &keys.bf16[0]
	default:
		args.F32 = &keys.f32[0]
	}
	for quad := range s.quads {
		args.Queries = &queries[quad*4*s.padded]
		bestScores(s.simd, &args)
		best := s.best[quad*4:][:4]
		for h, score := range args.Best {
			if score > best[h] || score != score {
				best[h] = score
			}
		}
	}
}
