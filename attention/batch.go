package attention

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// Batch describes the ragged rows of one pass in device memory, as kernels read them:
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
// Only one goroutine may use a batch at a time. A launch sees the last upload before it was
// queued.
type Batch struct {
	cache  *Cache
	device hip.Device // that launches go to: the cache's, or one that stands for it
	shared *batchMemory

	words   hip.Ptr    // what describes the rows
	own     hip.Buffer // memory for it, if the batch is uploaded by itself
	room    int        // words that own has room for
	staging []int32

	rows, sequences             int
	tableEntries, presenceWords int
	blocks                      int // of the longest sequence, or more
	parts                       int // of a row's keys, see partsOf
}

// batchMemory is the scratch memory that batches of passes that do not overlap share.
type batchMemory struct {
	partial hip.Buffer // what the parts of rows' keys gave
	writers []uint64   // by page: the upload that last had rows in it
	upload  uint64     // counted; too wide to come round
}

// NewBatch returns an empty batch for the cache's layers and pages. If first is given, it
// shares the scratch memory of that batch: passes of the two must not overlap, and neither
// may be used after Close of the first.
func NewBatch(c *Cache, first ...*Batch) *Batch {
	if c == nil || c.device == nil || len(first) > 0 && first[0].zero() {
		return new(Batch) // every use of it says so
	}
	b := &Batch{cache: c, device: c.device}
	if len(first) > 0 {
		b.shared = first[0].shared
	} else {
		b.shared = &batchMemory{writers: make([]uint64, c.Pages())}
	}
	return b
}

// On returns b with its launches on d, a device that stands for the cache's, such as one
// that records. It is valid until b changes.
func (b *Batch) On(d hip.Device) *Batch {
	if b == nil {
		return new(Batch)
	}
	on := *b
	on.device = d
	return &on
}

// Blocks returns the number of blocks of the longest sequence, rounded up by
// [Batch.Encode]: the stride of the block scores.
func (b *Batch) Blocks() int {
	if b == nil {
		return 0
	}
	return b.blocks
}

// Upload describes the rows of a pass, span by span, and copies the description to the
// device. It does not keep the spans. The error joins a [hip.InputError] for every problem,
// whose Sequence is that of the span; the batch is then empty. Without spans the batch is
// empty, and every kernel does nothing.
func (b *Batch) Upload(spans ...Span) error {
	if b.zero() {
		return zeroBatch("batch")
	}
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

// Place sets the device address to which the caller copies the words that Encode appended
// last. The rows' positions begin there.
func (b *Batch) Place(p hip.Ptr) {
	if b != nil {
		b.words = p
	}
}

// clear makes the batch empty.
func (b *Batch) clear() {
	b.rows, b.sequences, b.blocks, b.tableEntries, b.presenceWords, b.parts = 0, 0, 0, 0, 0, 0
}

// write copies the staged words to memory of the batch's own, which grows by doubling.
func (b *Batch) write() error {
	d, n := b.cache.device, len(b.staging)
	if n > b.room {
		room := max(n, 2*b.room)
		b.room = 0
		if err := b.own.Grow(d, room, 4); err != nil {
			return fmt.Errorf("attention: batch of %d words: %w", n, err)
		}
		b.room = room
	}
	b.words = b.own.Ptr()
	if err := hip.WriteOf(d, b.words, b.staging); err != nil {
		return fmt.Errorf("attention: batch of %d words: %w", n, err)
	}
	return nil
}

// Close frees the device memory, and what of it an earlier call could not free. Otherwise
// calls after the first do nothing.
func (b *Batch) Close() error {
	if b.zero() {
		return nil
	}
	d := b.cache.device
	*b = Batch{cache: b.cache, device: d, shared: b.shared, own: b.own}
	if err := errors.Join(b.own.Free(d), b.shared.partial.Free(d)); err != nil {
		return fmt.Errorf("attention: close batch: %w", err)
	}
	return nil
}
