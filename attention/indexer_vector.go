package attention

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// rowsTogether is how many rows are rated over the same keys before the next
// keys, so that rows of one sequence find them in the cache.
const rowsTogether = 64

// indexScorer rates blocks of keys with vector instructions, four index heads at
// a time (see bestScoresBF16AVX512).
type indexScorer struct {
	b    *hip.Blocks
	a    *scoresArgs
	simd hip.SIMD
	rows rowsView

	dim, padded int       // padded: to whole vectors
	quads       int       // of heads
	inPlace     bool      // stored keys are read as they lie
	queries     []float32 // [rows, quads] in bestScores' order
	keys        []float32 // [BlockSize, padded]: keys that are not read in place
	best        []float32 // [quads·4]
}

func scoresVector(b *hip.Blocks, a *scoresArgs) {
	dim, quads := int(a.IndexDim), (int(a.IndexHeads)+3)/4
	whole := 16
	if CacheFormat(a.Format) == CacheBF16 {
		whole = 32
	}
	padded := (dim + whole - 1) / whole * whole
	chunks := a.chunks()
	first, end := b.First/chunks, (b.End-1)/chunks+1 // rows
	together := min(end-first, rowsTogether)
	s := &indexScorer{
		b: b, a: a, simd: b.SIMD(), rows: viewRows(b, a.Batch, batchSize{a.Rows, a.Sequences, a.TableEntries, a.PresenceWords}),
		dim: dim, padded: padded, quads: quads, inPlace: dim == padded,
		queries: hip.Scratch[float32](b, together*quads*4*padded), best: hip.Scratch[float32](b, quads*4),
	}
	if !s.inPlace {
		s.keys = hip.Scratch[float32](b, int(a.BlockSize)*padded)
		clear(s.keys) // of which columns behind dim stay zero
	}
	for ; first < end; first += together {
		last := min(first+together, end)
		for row := first; row < last; row++ {
			s.setQueries(row, s.of(row-first))
		}
		for chunk := range chunks {
			for row := first; row < last; row++ {
				if i := row*chunks + chunk; i >= b.First && i < b.End {
					s.rate(row, chunk*int(a.ChunkBlocks), s.of(row-first))
				}
			}
		}
	}
}

// of returns the queries of the row that is i-th together.
func (s *indexScorer) of(i int) []float32 {
	n := s.quads * 4 * s.padded
	return s.queries[i*n : (i+1)*n]
}

// setQueries lays out a row's index queries: see bestScoresBF16AVX512 and
// bestScoresF32AVX512. Heads and columns that are not there are zero.
func (s *indexScorer) setQueries(row int, dst []float32) {
	heads := int(s.a.IndexHeads)
	q := hip.In[float32](s.b, s.a.IndexQ.Add(int64(row)*s.a.Stride*4), heads*s.dim)
	if s.quads*4 != heads || s.dim != s.padded {
		clear(dst)
	}
	evenAndOdd := s.inPlace && CacheFormat(s.a.Format) == CacheBF16
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

// rate sets the scores of a row for the chunk of blocks that begins at first.
func (s *indexScorer) rate(row, first int, queries []float32) {
	heads, blocks, size := int(s.a.IndexHeads), int(s.a.ScoreBlocks), int(s.a.BlockSize)
	n := min(int(s.a.ChunkBlocks), blocks-first)
	c := s.rows.context(row)
	keys := s.block(&c, first)
	for k := range n {
		next := keys
		if keys.dim > 0 && c.keys(first+k+1, size) > 0 {
			next = s.block(&c, first+k+1)
		}
		for h := range s.best {
			s.best[h] = float32(math.Inf(-1))
		}
		for at := 0; at < keys.len(); {
			from, to := c.run((first+k)*size, at, keys.len())
			if from < to {
				s.join(queries, keys.slice(from, to), next)
			}
			at = to
		}
		for h := range heads {
			out := s.a.Scores.Add(((int64(row)*int64(heads)+int64(h))*int64(blocks) + int64(first+k)) * 4)
			hip.Out[float32](s.b, out, 1)[0] = s.best[h]
		}
		keys = next
		if c.keys(first+k+1, size) == 0 {
			keys = vectors{}
		}
	}
}

// block returns the keys of a block that are not after the row.
func (s *indexScorer) block(c *rowContext, block int) vectors {
	visible := c.keys(block, int(s.a.BlockSize))
	if visible == 0 {
		return vectors{}
	}
	return readVectors(s.b, s.a.IndexKeys, CacheFormat(s.a.Format), s.dim, int64(c.table[block])*int64(s.a.BlockSize), visible)
}

// join lets keys take part in the best scores. A NaN stays: nothing is larger.
func (s *indexScorer) join(queries []float32, keys, next vectors) {
	args := bestScoresArgs{Dim: s.padded, Keys: keys.len(), Next: next.address()}
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
