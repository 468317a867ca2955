package attention

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/drafthead/drafthead/hip"
)

// Encode appends the words that describe the rows to words, for a caller that copies them
// to the device with other words and calls [Batch.Place]. It rounds sizes that grow with
// the sequences up to multiples of granule, so that the launches of later passes are more
// often the same; 1 rounds nothing. Errors are those of [Batch.Upload]; words are then
// returned as they were.
func (b *Batch) Encode(words []int32, granule int, spans ...Span) ([]int32, error) {
	if b.zero() {
		return words, zeroBatch("batch")
	}
	b.clear()
	if err := b.check(spans); err != nil {
		return words, err
	}
	size, granule := b.cache.geometry.BlockSize, max(1, granule)
	n := Batch{sequences: len(spans)}
	for i := range spans {
		s := &spans[i]
		n.rows += s.rows
		n.blocks = max(n.blocks, s.blocks(size))
		n.tableEntries += s.blocks(size)
		if s.presence != nil {
			n.presenceWords += wordsFor(s.end())
		}
	}
	for _, value := range []*int{&n.blocks, &n.tableEntries, &n.presenceWords} {
		*value = blocksFor(*value, granule) * granule
	}
	if err := b.growParts(n.rows, n.blocks); err != nil {
		return words, err
	}
	first, count := len(words), 3*n.rows+2*n.sequences+n.tableEntries+n.presenceWords
	words = slices.Grow(words, count)[:first+count]
	encodeSpans(words[first:], &n, size, spans)
	b.rows, b.sequences, b.blocks, b.tableEntries, b.presenceWords = n.rows, n.sequences, n.blocks, n.tableEntries, n.presenceWords
	return words, nil
}

// encodeSpans fills words, the parts of a [Batch] of n's sizes.
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
		for p := s.position; p < s.end(); p++ {
			positions[row], sequences[row] = int32(p), int32(i)
			slots[row] = s.table[p/size]*int32(size) + int32(p%size)
			row++
		}
		tableOffsets[i], presenceOffsets[i] = int32(table), -1
		table += copy(tables[table:], s.table[:s.blocks(size)])
		if s.presence != nil {
			presenceOffsets[i] = int32(word)
			for _, bits := range s.presence[:wordsFor(s.end())] {
				presence[word] = int32(bits)
				word++
			}
		}
	}
	clear(tables[table:])
	clear(presence[word:])
}

// maxBatchWords bounds each part of the buffer, whose offsets are int32.
const maxBatchWords = math.MaxInt32 / 8

// check returns all that is wrong with the spans.
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
		words += s.rows + len(s.table) + len(s.presence)
		if words > maxBatchWords {
			errs = append(errs, &hip.InputError{Op: "attention: batch", Field: "size", Got: words, Want: fmt.Sprintf("at most %d rows, blocks and presence words", maxBatchWords)})
			break
		}
	}
	return errors.Join(errs...)
}
