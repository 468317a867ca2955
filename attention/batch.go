package attention

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/drafthead/drafthead/hip"
)

// Span is the rows of one sequence in a batch: consecutive positions that this
// pass writes and attends from.
type Span struct {
	// BlockTable is the page of each block of positions, at least up to the
	// last row's. The table may be an engine's own.
	BlockTable []int32
	// Presence has one bit for each position that holds a key, bit j%32 of word
	// j/32, the rows' own included; nil: all positions up to the last row do.
	Presence []uint32
	// Position is that of the first row.
	Position int
	// Rows is the number of rows, at least one.
	Rows int
}

// Batch is the ragged rows of one pass in device memory, as kernels read them:
// one buffer of 32-bit words, grown when needed and otherwise reused.
//
//	positions        [Rows]       int32
//	sequences        [Rows]       int32   index of the row's span
//	slots            [Rows]       int32   page·BlockSize + position mod BlockSize
//	table offsets    [Sequences]  int32   into block tables
//	presence offsets [Sequences]  int32   into presence words; −1: no holes
//	block tables     [Σ blocks]   int32
//	presence words   [Σ words]    uint32
//
// A batch is used by one goroutine at a time. Launches that are queued see the
// upload that came before them.
type Batch struct {
	cache    *Cache
	buffer   hip.Ptr
	capacity int     // words of the buffer
	words    []int32 // staging
	tables   []int32
	presence []int32

	parts           int     // of a row's keys, see partsOf
	partial         hip.Ptr // what they gave
	partialCapacity int     // values

	rows, sequences int
	blocks          int // of the longest sequence

	writers []uint32 // by page: the upload that last had rows in it
	upload  uint32
}

// NewBatch returns an empty batch for the cache's layers and pages.
func NewBatch(c *Cache) *Batch {
	return &Batch{cache: c, writers: make([]uint32, c.Pages())}
}

// Rows is the number of rows of the last upload.
func (b *Batch) Rows() int { return b.rows }

// Blocks is the number of blocks of the longest sequence of the last upload:
// the stride of the block scores.
func (b *Batch) Blocks() int { return b.blocks }

// Upload describes the rows of a pass, span by span, and copies that to the
// device. The spans are not kept. All problems are reported together, as
// [ArgumentError]s that name the span and [PositionError]s; the batch is then
// empty. No spans make an empty batch, with which every kernel does nothing.
func (b *Batch) Upload(spans ...Span) error {
	b.rows, b.sequences, b.blocks = 0, 0, 0
	if err := b.check(spans); err != nil {
		return err
	}
	size := b.cache.geometry.BlockSize
	rows, blocks := 0, 0
	for i := range spans {
		rows += spans[i].Rows
		blocks = max(blocks, spans[i].blocks(size))
	}
	header := 3*rows + 2*len(spans)
	b.words = slices.Grow(b.words[:0], header)[:header]
	b.tables, b.presence = b.tables[:0], b.presence[:0]
	positions, sequences, slots := b.words[:rows], b.words[rows:2*rows], b.words[2*rows:3*rows]
	tableOffsets, presenceOffsets := b.words[3*rows:3*rows+len(spans)], b.words[3*rows+len(spans):]
	row := 0
	for i := range spans {
		s := &spans[i]
		for p := s.Position; p < s.Position+s.Rows; p++ {
			positions[row], sequences[row] = int32(p), int32(i)
			slots[row] = s.BlockTable[p/size]*int32(size) + int32(p%size)
			row++
		}
		tableOffsets[i], presenceOffsets[i] = int32(len(b.tables)), -1
		b.tables = append(b.tables, s.BlockTable[:s.blocks(size)]...)
		if s.Presence != nil {
			presenceOffsets[i] = int32(len(b.presence))
			for _, word := range s.Presence[:wordsFor(s.Position+s.Rows)] {
				b.presence = append(b.presence, int32(word))
			}
		}
	}
	b.words = append(append(b.words, b.tables...), b.presence...)
	if err := errors.Join(b.growParts(rows), b.write()); err != nil {
		return err
	}
	b.rows, b.sequences, b.blocks = rows, len(spans), blocks
	return nil
}

// write copies the staged words to a buffer that is large enough.
func (b *Batch) write() error {
	d := b.cache.device
	if len(b.words) > b.capacity {
		capacity := max(len(b.words), 2*b.capacity)
		buffer, err := hip.AllocOf[int32](d, capacity)
		if err != nil {
			return fmt.Errorf("batch of %d words: %w", len(b.words), err)
		}
		old := b.buffer
		b.buffer, b.capacity = buffer, capacity
		if err := d.Free(old); err != nil {
			return err
		}
	}
	return hip.WriteOf(d, b.buffer, b.words)
}

// Close frees the device memory. Calls after the first do nothing.
func (b *Batch) Close() error {
	buffer, partial := b.buffer, b.partial
	*b = Batch{cache: b.cache, writers: b.writers, upload: b.upload}
	return errors.Join(b.cache.device.Free(buffer), b.cache.device.Free(partial))
}

// blocks is the number of blocks up to the last row.
func (s *Span) blocks(size int) int { return (s.Position + s.Rows + size - 1) / size }

// maxBatchWords bounds each part of the buffer, whose offsets are int32.
const maxBatchWords = math.MaxInt32 / 8

func (b *Batch) check(spans []Span) error {
	var errs []error
	words := 0
	b.upload++
	for i := range spans {
		s := &spans[i]
		if err := b.checkSpan(i, s); err != nil {
			errs = append(errs, err)
			continue
		}
		words += s.Rows + len(s.BlockTable) + len(s.Presence)
		if words > maxBatchWords {
			errs = append(errs, &ArgumentError{"batch", "size", words, fmt.Sprintf("at most %d rows, blocks and presence words", maxBatchWords)})
			break
		}
	}
	return errors.Join(errs...)
}

// checkSpan builds nothing to report until there is something to report.
func (b *Batch) checkSpan(i int, s *Span) error {
	size, limit := b.cache.geometry.BlockSize, b.cache.geometry.Rope.Positions()
	var errs []error
	position := func(p int) { errs = append(errs, fmt.Errorf("batch: span %d: %w", i, &PositionError{p, limit})) }
	refuse := func(argument string, got any, want string) {
		errs = append(errs, &ArgumentError{fmt.Sprintf("batch: span %d", i), argument, got, want})
	}
	switch {
	case s.Position < 0 || s.Position >= limit:
		position(s.Position)
	case s.Rows < 1:
		refuse("rows", s.Rows, "at least 1")
	case s.Rows > limit-s.Position:
		position(s.Position + s.Rows - 1)
	}
	if errs != nil {
		return errors.Join(errs...)
	}
	end, blocks := s.Position+s.Rows, s.blocks(size)
	if n := len(s.BlockTable); n < blocks {
		refuse("block table", fmt.Sprintf("of %d blocks", n), fmt.Sprintf("at least %d, for position %d", blocks, end-1))
	}
	for block, page := range s.BlockTable[:min(blocks, len(s.BlockTable))] {
		switch {
		case page < 0 || int(page) >= len(b.writers):
			refuse(fmt.Sprintf("block table[%d]", block), page, fmt.Sprintf("a page, 0 to %d", len(b.writers)-1))
		case block < s.Position/size: // only read
		case b.writers[page] == b.upload:
			refuse(fmt.Sprintf("block table[%d]", block), page, "a page that no other rows of the batch are written to")
		default:
			b.writers[page] = b.upload
		}
	}
	if n := len(s.Presence); s.Presence != nil && n < wordsFor(end) {
		refuse("presence", fmt.Sprintf("of %d words", n), fmt.Sprintf("at least %d, for position %d", wordsFor(end), end-1))
	} else if s.Presence != nil {
		for j := s.Position; j < end; j++ {
			if s.Presence[j/32]>>(j%32)&1 == 0 {
				refuse("presence", fmt.Sprintf("without position %d", j), "the rows' own positions")
			}
		}
	}
	return errors.Join(errs...)
}
