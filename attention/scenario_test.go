package attention

import (
	"errors"
	"math/rand/v2"

	"github.com/drafthead/drafthead/hip"
)

// scenario is a pass of ragged rows over filled caches, from projection to
// attention output.
type scenario struct {
	name     string
	geometry Geometry
	format   CacheFormat
	learned  learned
	spans    []scenarioSpan
	edit     func(span, position int, columns []float32) // changes what was projected; nil: nothing
	granule  int                                         // of Encode; 0: Upload
}

type scenarioSpan struct {
	seed           uint64 // of the contents
	position, rows int
	hole           func(position int) bool // positions without keys, before the rows; nil: none
}

// results holds what each operation wrote.
type results struct {
	qkv, scores, out []float32
	selected         []int32
	blocks           int
}

// projected returns the projection of one row, the same in every scenario that
// has the span's seed.
func (s *scenario) projected(span, position int) []float32 {
	columns := randomValues(s.spans[span].seed, uint64(position), s.geometry.Columns())
	if s.edit != nil {
		s.edit(span, position, columns)
	}
	return columns
}

func (s *scenario) present(span, position int) bool {
	hole := s.spans[span].hole
	return hole == nil || position >= s.spans[span].position || !hole(position)
}

// run fills a cache and runs the pass. Pages are taken in random order, and hold
// NaN before.
func (s *scenario) run(d hip.Device) (r *results, err error) {
	pages := 3
	for _, span := range s.spans {
		pages += (span.position + span.rows + s.geometry.BlockSize - 1) / s.geometry.BlockSize
	}
	c, err := NewCache(d, s.geometry, 2, pages, s.format)
	if err != nil {
		return nil, err
	}
	if s.format.scaled() {
		if err := c.SetScales(1, testKeyScale, testValueScale); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	a := &arena{d: d}
	b := NewBatch(c)
	defer func() { err = errors.Join(err, b.Close(), a.close(), c.Close()) }()
	params, err := s.learned.upload(a, &s.geometry)
	if err != nil {
		return nil, err
	}
	if err := spoil(c, 1); err != nil {
		return nil, err
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(pages, func(i, j int) { c.pages.free[i], c.pages.free[j] = c.pages.free[j], c.pages.free[i] })

	var last []Span
	var lastRows [][]float32
	for i, span := range s.spans {
		tx, err := c.Begin(Claim{Sequence: c.NewSequence(), To: span.position + span.rows})
		if err != nil {
			return nil, err
		}
		for p := 0; p < span.position+span.rows; p++ {
			if !s.present(i, p) {
				continue
			}
			row, err := tx.Span(0, 1, p, 1)
			if err != nil {
				return nil, err
			}
			columns := s.projected(i, p)
			if p >= span.position {
				lastRows = append(lastRows, columns)
				continue
			}
			if err := s.insert(a, b, params, []Span{row}, columns, nil); err != nil {
				return nil, err
			}
		}
		all, err := tx.Span(0, 1, span.position, span.rows)
		if err != nil {
			return nil, err
		}
		last = append(last, all)
	}
	var all []float32
	for _, columns := range lastRows {
		all = append(all, columns...)
	}
	r = new(results)
	return r, s.insert(a, b, params, last, all, r)
}

// insert uploads rows and inserts them, and with r does the rest of the pass.
func (s *scenario) insert(a *arena, b *Batch, params Params, spans []Span, rows []float32, r *results) error {
	data, err := hip.Upload(a.d, rows)
	if err != nil {
		return err
	}
	defer a.d.Free(data)
	if err := s.upload(a, b, spans); err != nil {
		return err
	}
	qkv := data
	if err := Insert(b, 1, qkv, params); err != nil || r == nil {
		return err
	}
	g := &s.geometry
	r.blocks = b.Blocks()
	r.qkv = make([]float32, len(rows))
	if !g.dense() {
		r.scores = make([]float32, b.rows*g.KVHeads*b.Blocks())
		r.selected = make([]int32, b.rows*g.KVHeads*g.TopkBlocks)
	}
	r.out = make([]float32, b.rows*g.Heads*g.HeadDim)
	out, err := put(a, r.out)
	if err != nil {
		return err
	}
	if g.dense() {
		return errors.Join(
			Attend(b, 1, qkv, 0, out),
			hip.ReadOf(a.d, r.qkv, data),
			hip.ReadOf(a.d, r.out, out),
		)
	}
	scores, err1 := put(a, r.scores)
	selected, err2 := put(a, r.selected)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return Scores(b, 1, qkv, scores) },
		func() error { return Select(b, scores, selected) },
		func() error { return Attend(b, 1, qkv, selected, out) },
		func() error { return hip.ReadOf(a.d, r.qkv, data) },
		func() error { return hip.ReadOf(a.d, r.scores, scores) },
		func() error { return hip.ReadOf(a.d, r.selected, selected) },
		func() error { return hip.ReadOf(a.d, r.out, out) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// upload describes the rows: by themselves, or after other words.
func (s *scenario) upload(a *arena, b *Batch, spans []Span) error {
	if s.granule == 0 {
		return b.Upload(spans...)
	}
	words, err := b.Encode(make([]int32, 3), s.granule, spans...)
	if err != nil {
		return err
	}
	p, err := put(a, words)
	b.Place(p.Add(3 * 4))
	return err
}

// The scales of scenarios in F8_E4M3: some keys saturate, some codes are subnormal.
const testKeyScale, testValueScale = 0.0131, 0.31

// cacheFormatsTested are all formats.
var cacheFormatsTested = []CacheFormat{CacheF32, CacheBF16, CacheFP8, CacheFP8Index}

// spoil fills a layer with NaN, so that a read of what is not there is seen.
func spoil(c *Cache, layer int) error {
	keys, index, err := c.pageBytes(c.Pages())
	if err != nil {
		return err
	}
	l := c.layers[layer]
	for p, n := range map[hip.Ptr]int64{l.keys: keys, l.values: keys, l.indexKeys: index} {
		nan := make([]byte, n*int64(c.Pages()))
		for i := range nan {
			nan[i] = 0xff
		}
		if err := c.device.Write(p, nan); err != nil {
			return err
		}
	}
	return nil
}
