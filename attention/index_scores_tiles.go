package attention

import (
	"math"
	"slices"

	"github.com/drafthead/drafthead/hip"
)

// tileRows is the rows of four index heads each whose 16 queries make a tile.
const tileRows = 4

// tileScorer rates, with bfloat16 tiles, the blocks whose keys a row sees all of. It takes
// neighboring rows of a sequence without holes together (see bestScoresTiles). A query is
// split exactly into three bfloat16 numbers. A row's scores do not depend on the rows
// beside it.
type tileScorer struct {
	s       *indexScorer
	tiles   []rowTile
	queries []hip.BF16 // [tiles, quads] in bestScoresTiles' order
	scratch []float32
}

// rowTile is n rows from row on.
type rowTile struct{ row, n int }

// newTileScorer makes tiles of the rows.
func newTileScorer(s *indexScorer) *tileScorer {
	t := &tileScorer{s: s, scratch: hip.Scratch[float32](s.b, 64*16)}
	for row := range int(s.a.Rows) {
		if s.rows.context(row).presence == nil {
			t.add(row)
		}
	}
	t.queries = hip.Scratch[hip.BF16](s.b, len(t.tiles)*s.quads*48*s.dim)
	for i, tile := range t.tiles {
		t.split(tile, t.of(i))
	}
	return t
}

// add puts a row in the last tile, if it belongs there, or in one of its own.
func (t *tileScorer) add(row int) {
	if n := len(t.tiles); n > 0 && row%rowsTogether != 0 {
		last, sequences := &t.tiles[n-1], t.s.rows.sequences
		if last.n < tileRows && last.row+last.n == row && sequences[last.row] == sequences[row] {
			last.n++
			return
		}
	}
	t.tiles = append(t.tiles, rowTile{row, 1})
}

// takes reports whether the row's block is one for tiles.
func (t *tileScorer) takes(c *rowContext, block int) bool {
	return c.presence == nil && c.keys(block, int(t.s.a.BlockSize)) == int(t.s.a.BlockSize)
}

// of returns the queries of tile i.
func (t *tileScorer) of(i int) []hip.BF16 {
	n := t.s.quads * 48 * t.s.dim
	return t.queries[i*n : (i+1)*n]
}

// split lays out the queries of a tile's rows.
func (t *tileScorer) split(tile rowTile, dst []hip.BF16) {
	s := t.s
	heads := int(s.a.IndexHeads)
	if tile.n < tileRows || s.quads*4 != heads {
		clear(dst)
	}
	for r := range tile.n {
		q := hip.In[float32](s.b, s.a.IndexQ.Add(int64(tile.row+r)*s.a.Stride*4), heads*s.dim)
		for h := range heads {
			splitQuery(dst[h/4*48*s.dim:], r*4+h%4, q[h*s.dim:(h+1)*s.dim])
		}
	}
}

// splitQuery lays out a lane's query in three parts whose sum is exact: what rounding to
// bfloat16 leaves has 16 significant bits, and then 8.
func splitQuery(dst []hip.BF16, lane int, q []float32) {
	for d, v := range q {
		high := hip.ToBF16(v)
		rest := v - high.Float32()
		middle := hip.ToBF16(rest)
		low := hip.ToBF16(rest - middle.Float32())
		at := d/32*3*512 + d%32/2*32 + lane*2 + d%2
		dst[at], dst[at+512], dst[at+1024] = low, middle, high
	}
}

// rate sets the scores of the rows from … to−1 for those blocks of the chunk at first that
// tiles take.
func (t *tileScorer) rate(from, to, first int) {
	s := t.s
	heads := int(s.a.IndexHeads)
	for i, tile := range t.tiles {
		from, to := max(from, tile.row), min(to, tile.row+tile.n)
		if from >= to {
			continue
		}
		for row := from; row < to; row++ {
			s.openScores(s.out[(row-from)*heads:][:heads], row, first)
		}
		c := s.rows.context(to - 1) // which sees most
		for k := range s.out[0] {
			if !t.takes(&c, first+k) {
				break
			}
			t.block(tile, t.of(i), from, to, s.block(&c, first+k), s.block(&c, first+k+1), first+k, k)
		}
	}
}

// block sets score k of the rows from … to−1 that see all of the block's keys.
func (t *tileScorer) block(tile rowTile, queries []hip.BF16, from, to int, keys, next vectors, block, k int) {
	s := t.s
	c := s.rows.context(from)
	keys = s.inPlaceOf(keys, k, c.table[block])
	heads, size := int(s.a.IndexHeads), int(s.a.BlockSize)
	args := tileScoresArgs{BF16: &keys.bf16[0], Scratch: &t.scratch[0], Dim: s.dim, Keys: size, Next: next.address()}
	if args.Next == 0 {
		args.Next = keys.address()
	}
	for quad := range s.quads {
		args.Queries = &queries[quad*48*s.dim]
		bestScoresTiles(&args)
		for row := from; row < to; row++ {
			if c := s.rows.context(row); !t.takes(&c, block) {
				continue
			}
			best := args.Best[(row-tile.row)*4:][:min(4, heads-quad*4)]
			if slices.ContainsFunc(best, func(score float32) bool { return score != score }) {
				t.rateAgain(row, quad, keys, best) // an infinity may have been split
			}
			for h, score := range best {
				s.out[(row-from)*heads+quad*4+h][k] = score
			}
		}
	}
}

// rateAgain is bestScores of one row and four heads.
func (t *tileScorer) rateAgain(row, quad int, keys vectors, best []float32) {
	s := t.s
	for h := range s.best {
		s.best[h] = float32(math.Inf(-1))
	}
	s.join(s.of(row), keys, vectors{})
	copy(best, s.best[quad*4:])
}
