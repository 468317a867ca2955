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
// 32-bit words.
//
//	positions        [Rows]           int32
//	sequences        [Rows]           int32   index of the row's span
//	slots            [Rows]           int32   page·BlockSize + position mod BlockSize
//	table offsets    [Sequences]      int32   into block tables
//	presence offsets [Sequences]      int32   into presence words; −1: no holes
//	block tables     [TableEntries]   int32
//	presence words   [PresenceWords]  uint32
//
// A batch is used by one goroutine at a time. Launches that are queued see the
// upload that came before them.
type Batch struct {
	cache  *Cache
	device hip.Device // that launches go to: the cache's, or one that stands for it
	shared *batchMemory

	words    hip.Ptr // what describes the rows
	own      hip.Ptr // memory for it, if the batch is uploaded by itself
	capacity int     // words of it
	staging  []int32

	rows, sequences             int
	tableEntries, presenceWords int
	blocks                      int // of the longest sequence, or more
	parts                       int // of a row's keys, see partsOf
}

// batchMemory is what batches that run one after the other have in common.
type batchMemory struct {
	partial         hip.Ptr // what the parts of rows' keys gave
	partialCapacity int     // values

	writers []uint64 // by page: the upload that last had rows in it
	upload  uint64   // counted; wide enough never to come round
}

// NewBatch returns an empty batch for the cache's layers and pages.
func NewBatch(c *Cache) *Batch {
	return &Batch{cache: c, device: c.device, shared: &batchMemory{writers: make([]uint64, c.Pages())}}
}

// Another returns a batch for a later pass, which uses b's memory between
// launches: passes of both come one after the other. Closing b ends it.
func (b *Batch) Another() *Batch {
	return &Batch{cache: b.cache, device: b.cache.device, shared: b.shared}
}

// On returns b with its launches on d, which stands for the cache's device: one
// that records. It is valid until b changes.
func (b *Batch) On(d hip.Device) *Batch {
	on := *b
	on.device = d
	return &on
}

// Rows is the number of rows that were described last.
func (b *Batch) Rows() int { return b.rows }

// Positions is where the rows' positions are: int32 [Rows].
func (b *Batch) Positions() hip.Ptr { return b.words }

// Blocks is the number of blocks of the longest sequence, or what [Batch.Encode]
// made of it: the stride of the block scores.
func (b *Batch) Blocks() int { return b.blocks }

// Upload describes the rows of a pass, span by span, and copies that to the
// device. The spans are not kept. All problems are reported together, as
// [ArgumentError]s that name the span and [PositionError]s; the batch is then
// empty. No spans make an empty batch, with which every kernel does nothing.
func (b *Batch) Upload(spans ...Span) error {
	words, err := b.Encode(b.staging[:0], 1, spans...)
	b.staging = words
	if err == nil {
		err = b.write()
	}
	if err != nil {
		b.clear()
	}
	return err
}

// Encode appends the words that describe the rows to words, for a caller that
// copies them to the device with others and then tells [Batch.Place] where they
// are. Sizes that grow with the sequences are rounded up to multiples of granule,
// so that the launches of later passes are more often the same; 1 rounds nothing.
// Errors are those of [Batch.Upload]; words are then returned as they were.
func (b *Batch) Encode(words []int32, granule int, spans ...Span) ([]int32, error) {
	b.clear()
	if err := b.check(spans); err != nil {
		return words, err
	}
	size := b.cache.geometry.BlockSize
	n := Batch{sequences: len(spans)}
	for i := range spans {
		s := &spans[i]
		n.rows += s.Rows
		n.blocks = max(n.blocks, s.blocks(size))
		n.tableEntries += s.blocks(size)
		if s.Presence != nil {
			n.presenceWords += wordsFor(s.Position + s.Rows)
		}
	}
	for _, value := range []*int{&n.blocks, &n.tableEntries, &n.presenceWords} {
		*value = (*value + granule - 1) / granule * granule
	}
	if err := b.growParts(n.rows); err != nil {
		return words, err
	}
	first, count := len(words), 3*n.rows+2*n.sequences+n.tableEntries+n.presenceWords
	words = slices.Grow(words, count)[:first+count]
	encodeSpans(words[first:], &n, size, spans)
	b.rows, b.sequences, b.blocks, b.tableEntries, b.presenceWords = n.rows, n.sequences, n.blocks, n.tableEntries, n.presenceWords
	return words, nil
}

// Place tells that what Encode appended last is at p.
func (b *Batch) Place(p hip.Ptr) { b.words = p }

// encodeSpans fills words, whose parts are as large as n says.
func encodeSpans(words []int32, n *Batch, size int, spans []Span) {
	part := func(count int) []int32 {
		p := words[:count:count]
		words = words[count:]
		return p
	}
	positions, sequences, slots := part(n.rows), part(n.rows), part(n.rows)
	tableOffsets, presenceOffsets := part(n.sequences), part(n.sequences)
	tables, presence := part(n.tableEntries), part(n.presenceWords)
	row, table, word := 0, 0, 0
	for i := range spans {
		s := &spans[i]
		for p := s.Position; p < s.Position+s.Rows; p++ {
			positions[row], sequences[row] = int32(p), int32(i)
			slots[row] = s.BlockTable[p/size]*int32(size) + int32(p%size)
			row++
		}
		tableOffsets[i], presenceOffsets[i] = int32(table), -1
		table += copy(tables[table:], s.BlockTable[:s.blocks(size)])
		if s.Presence != nil {
			presenceOffsets[i] = int32(word)
			for _, bits := range s.Presence[:wordsFor(s.Position+s.Rows)] {
				presence[word] = int32(bits)
				word++
			}
		}
	}
	clear(tables[table:])
	clear(presence[word:])
}

// clear leaves no rows.
func (b *Batch) clear() {
	b.rows, b.sequences, b.blocks, b.tableEntries, b.presenceWords, b.parts = 0, 0, 0, 0, 0, 0
}

// write copies the staged words to memory of the batch's own that is large enough.
func (b *Batch) write() error {
	d := b.cache.device
	if len(b.staging) > b.capacity {
		capacity := max(len(b.staging), 2*b.capacity)
		buffer, err := hip.AllocOf[int32](d, capacity)
		if err != nil {
			return fmt.Errorf("batch of %d words: %w", len(b.staging), err)
		}
		old := b.own
		b.own, b.capacity = buffer, capacity
		if err := d.Free(old); err != nil {
			return err
		}
	}
	b.words = b.own
	return hip.WriteOf(d, b.own, b.staging)
}

// Close frees the device memory. Calls after the first do nothing.
func (b *Batch) Close() error {
	d, own, partial := b.cache.device, b.own, b.shared.partial
	b.shared.partial, b.shared.partialCapacity = 0, 0
	*b = Batch{cache: b.cache, device: d, shared: b.shared}
	return errors.Join(d.Free(own), d.Free(partial))
}

// blocks is the number of blocks up to the last row.
func (s *Span) blocks(size int) int { return (s.Position + s.Rows + size - 1) / size }

// maxBatchWords bounds each part of the buffer, whose offsets are int32.
const maxBatchWords = math.MaxInt32 / 8

func (b *Batch) check(spans []Span) error {
	var errs []error
	words := 0
	b.shared.upload++
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
		case page < 0 || int(page) >= len(b.shared.writers):
			refuse(fmt.Sprintf("block table[%d]", block), page, fmt.Sprintf("a page, 0 to %d", len(b.shared.writers)-1))
		case block < s.Position/size: // only read
		case b.shared.writers[page] == b.shared.upload:
			refuse(fmt.Sprintf("block table[%d]", block), page, "a page that no other rows of the batch are written to")
		default:
			b.shared.writers[page] = b.shared.upload
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
