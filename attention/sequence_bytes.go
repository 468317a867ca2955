package attention

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/drafthead/drafthead/hip"
)

// A sequence as bytes, little-endian, in three parts, each followed by its CRC-32C:
//
//	preamble   magic [8], version, KVHeads, HeadDim, IndexDim, BlockSize, cache format, layers,
//	           CRC-32C of the rope, CRC-32C of the scales (of every layer those of keys and
//	           values, float32; 0 in a format without scales), positions    uint32 each
//	marks      of each layer: one past its last key, the number of words, and as many words,
//	           bit j%32 of word j/32 set where position j holds a key; no words: no holes
//	pages      of each layer its keys, values and index keys, as a [Cache] stores them: the
//	           pages in the order of positions, without those that hold no key of the layer
//
// Slots that hold no key are zero, so that the bytes depend on the sequence alone.
const (
	bytesMagic    = "dhkvseq\n"
	bytesVersion  = 2
	preambleBytes = len(bytesMagic) + 4*10
)

// chunkBytes is how much of the pages is on the host at a time, or one page if that is more.
const chunkBytes = 4 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteTo writes the sequence, which stays as it is, for [Cache.ReadSequence]: its keys,
// values and index keys, and where they are. It copies in chunks of a few megabytes, and
// returns the number of bytes. An error is w's or the device's, [ErrClosed], or that another
// call uses the sequence.
func (s *Sequence) WriteTo(w io.Writer) (int64, error) {
	if err := s.enterOpen("write sequence"); err != nil {
		return 0, err
	}
	defer s.leave()
	out := &sealedWriter{w: w}
	out.write(s.cache.preamble(s.length))
	out.seal()
	var marks []byte
	for l := range s.written {
		p := &s.written[l]
		marks = appendWords(marks, uint32(p.end), uint32(len(p.words)))
		marks = appendWords(marks, p.words...)
	}
	out.write(marks)
	out.seal()
	for l := range s.written {
		s.cache.runs(s.table, &s.written[l], l, func(r run) bool {
			chunk := out.chunk(int(r.bytes()))
			if out.err == nil {
				out.err = s.cache.access(func(d hip.Device) error { return d.Read(chunk, r.at()) })
			}
			r.clearAbsent(chunk)
			out.write(chunk)
			return out.err == nil
		})
	}
	out.seal()
	if out.err != nil {
		return out.n, fmt.Errorf("attention: write sequence: %w", out.err)
	}
	return out.n, nil
}

// ReadSequence returns a sequence with what [Sequence.WriteTo] wrote, of this cache or of
// another with the same geometry, format, scales and number of layers, on any device. It reads no
// byte more, and copies in chunks of a few megabytes.
//
// Bytes of another version, shape or format, or damaged ones, are a [hip.InputError] that
// names what differs. It wraps [io.ErrUnexpectedEOF] if the bytes end early, and [io.EOF] if
// there are none. A cache with too few free pages is a [CacheFullError], one that is used
// with block tables a [hip.InputError], a closed one [ErrClosed]; other errors are r's or the
// device's. On any error no page is taken.
func (c *Cache) ReadSequence(r io.Reader) (_ *Sequence, err error) {
	const op = "attention: read sequence"
	if c == nil || len(c.layers) == 0 {
		return nil, &hip.InputError{Op: op, Field: "cache", Got: "empty", Want: "one of NewCache"}
	}
	if !c.owner.hold(ownerSequences) {
		return nil, &hip.InputError{Op: op, Field: "cache", Got: "used with BlockTables", Want: "Sequences or BlockTables, not both"}
	}
	s, whole := c.NewSequence(), false
	defer func() { // also after a panic of r
		c.owner.release(whole)
		if !whole {
			err = errors.Join(err, s.Close())
		}
	}()
	in := &sealedReader{r: r, op: op}
	length, err := c.readPreamble(in)
	if err != nil {
		return nil, err
	}
	pages := room{}
	if _, err := c.pages.takeOne("read sequence", &pages, 0, blocksFor(length, c.geometry.BlockSize)); err != nil {
		return nil, err
	}
	s.put(&pages)
	if err := s.readMarks(in, length); err != nil {
		return nil, err
	}
	for l := range s.written {
		c.runs(s.table, &s.written[l], l, func(r run) bool {
			chunk := in.chunk(int(r.bytes()))
			if err = in.read(chunk); err == nil {
				err = in.named(c.access(func(d hip.Device) error { return d.Write(r.at(), chunk) }))
			}
			return err == nil
		})
		if err != nil {
			return nil, err
		}
	}
	if err := in.sealed("the pages"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.length = length
	s.mu.Unlock()
	whole = true
	return s, nil
}

// preamble is what must be alike in the cache that reads.
func (c *Cache) preamble(length int) []byte {
	g := &c.geometry
	return appendWords([]byte(bytesMagic), bytesVersion, uint32(g.KVHeads), uint32(g.HeadDim), uint32(g.IndexDim),
		uint32(g.BlockSize), uint32(c.format), uint32(len(c.layers)), g.Rope.sum(), c.scalesSum(), uint32(length))
}

// scalesSum is the CRC-32C of what keys and values were divided by.
func (c *Cache) scalesSum() uint32 {
	if !c.format.scaled() {
		return 0
	}
	var b []byte
	for _, l := range c.layers {
		b = appendWords(b, math.Float32bits(l.keyScale), math.Float32bits(l.valueScale))
	}
	return crc32.Checksum(b, castagnoli)
}

// sum is the CRC-32C of what keys are rotated by.
func (r *Rope) sum() uint32 {
	factor := r.AttentionFactor
	if len(r.Frequencies) == 0 {
		factor = 1
	}
	b := binary.LittleEndian.AppendUint64(nil, math.Float64bits(factor))
	for _, f := range r.Frequencies {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
	}
	return crc32.Checksum(b, castagnoli)
}

// readPreamble compares what is written with the cache, and returns the positions.
func (c *Cache) readPreamble(in *sealedReader) (length int, err error) {
	got, want := make([]byte, preambleBytes), c.preamble(0)
	const version = len(bytesMagic) + 4
	if err := in.read(got[:version]); err != nil {
		return 0, err
	}
	if magic := string(got[:len(bytesMagic)]); magic != bytesMagic {
		return 0, in.refuse("magic", fmt.Sprintf("%q", magic), fmt.Sprintf("%q", bytesMagic), nil)
	}
	word := func(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[len(bytesMagic)+4*i:]) }
	if v := word(got, 0); v != bytesVersion {
		return 0, in.refuse("version", v, fmt.Sprint(bytesVersion), nil)
	}
	if err := in.read(got[version:]); err != nil {
		return 0, err
	}
	if err := in.sealed("the preamble"); err != nil {
		return 0, err
	}
	for i, field := range []string{"KVHeads", "HeadDim", "IndexDim", "BlockSize", "format", "layers", "CRC-32C of the Rope", "CRC-32C of the scales"} {
		was, is := word(got, 1+i), word(want, 1+i)
		if was == is {
			continue
		}
		if field == "format" {
			return 0, in.refuse(field, CacheFormat(was), fmt.Sprintf("%v, the cache's", CacheFormat(is)), nil)
		}
		return 0, in.refuse(field, was, fmt.Sprintf("%d, the cache's", is), nil)
	}
	positions, most := word(got, 9), c.geometry.Rope.Positions
	if int64(positions) > int64(most) {
		return 0, in.refuse("positions", positions, fmt.Sprintf("at most %d, those that there are", most), ErrPosition)
	}
	return int(positions), nil
}

// readMarks reads where each layer was written.
func (s *Sequence) readMarks(in *sealedReader, length int) error {
	for l := range s.written {
		var head [8]byte
		if err := in.read(head[:]); err != nil {
			return err
		}
		end, words := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
		field := fmt.Sprintf("marks of layer %d", l)
		if int64(end) > int64(length) || words != 0 && int64(words) != int64(wordsFor(int(end))) {
			return in.refuse(field, fmt.Sprintf("%d words up to position %d", words, end), fmt.Sprintf("those of at most %d positions", length), nil)
		}
		p := presence{end: int(end)}
		raw := make([]byte, 4*words)
		if err := in.read(raw); err != nil {
			return err
		}
		for ; len(raw) > 0; raw = raw[4:] {
			p.words = append(p.words, binary.LittleEndian.Uint32(raw))
		}
		if last := len(p.words) - 1; last >= 0 {
			if p.words[last] == 0 || 32*last+32-leadingZeros(p.words[last]) != p.end {
				return in.refuse(field, "without the last position", "it", nil)
			}
			p.compact()
		}
		s.written[l] = p
	}
	return in.sealed("the marks")
}
