package attention

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"github.com/drafthead/drafthead/hip"
)

// run is pages of one buffer of a layer that lie one after another, for consecutive blocks.
type run struct {
	cache     *Cache
	marks     *presence
	buffer    int // 0 keys, 1 values, 2 index keys
	start     hip.Ptr
	block     int // the first
	page      int32
	pages     int
	pageBytes int64 // bytes of a page
}

func (r *run) bytes() int64 { return int64(r.pages) * r.pageBytes }
func (r *run) at() hip.Ptr  { return r.start.Add(int64(r.page) * r.pageBytes) }

// runs calls do for all pages that hold a key of a layer, buffer by buffer and in the order
// of positions, until it returns false. A run is at most a chunk.
func (c *Cache) runs(table []int32, marks *presence, layer int, do func(r run) bool) {
	keys, index, _ := c.pageBytes(c.Pages()) // NewCache checked it
	size := c.geometry.BlockSize
	holds := func(block int) bool { return marks.any(block*size, (block+1)*size) }
	for i, start := range c.layers[layer].buffers() {
		r := run{cache: c, marks: marks, buffer: i, start: start, pageBytes: [...]int64{keys, keys, index}[i]}
		if r.pageBytes == 0 {
			continue // dense: no index keys
		}
		for block := 0; block < len(table); block += r.pages {
			r.block, r.page, r.pages = block, table[block], 1
			if !holds(block) {
				continue
			}
			for next := block + 1; next < len(table) && holds(next) && table[next] == r.page+int32(r.pages) && r.bytes()+r.pageBytes <= chunkBytes; next++ {
				r.pages++
			}
			if !do(r) {
				return
			}
		}
	}
}

// clearAbsent zeroes the slots of the run's bytes that hold no key.
func (r *run) clearAbsent(chunk []byte) {
	g := &r.cache.geometry
	heads, width, stored := g.KVHeads, g.HeadDim, r.cache.format.keys()
	if r.buffer == 2 {
		heads, width, stored = 1, g.IndexDim, r.cache.format.indexKeys()
	}
	vector := width * int(elementBytes(stored))
	for page := range r.pages {
		first := (r.block + page) * g.BlockSize
		for slot := range g.BlockSize {
			if r.marks.any(first+slot, first+slot+1) {
				continue
			}
			for head := range heads {
				at := ((page*heads+head)*g.BlockSize + slot) * vector
				clear(chunk[at : at+vector])
			}
		}
	}
}

// any reports whether one of the positions from … to−1 holds a key.
func (p *presence) any(from, to int) bool {
	if p.words == nil {
		return from < min(to, p.end)
	}
	return anyBit(p.words, from, to)
}

func leadingZeros(word uint32) int { return bits.LeadingZeros32(word) }

// access lets do read or write pages of the cache while it is open.
func (c *Cache) access(do func(d hip.Device) error) error {
	c.using.RLock()
	defer c.using.RUnlock()
	if c.layers[0].keys == 0 {
		return fmt.Errorf("cache is %w", ErrClosed)
	}
	return do(c.device)
}

// appendWords appends values in little-endian order.
func appendWords(b []byte, values ...uint32) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// sealedWriter writes parts, each followed by its CRC-32C. After an error, which is err, it
// writes nothing.
type sealedWriter struct {
	w      io.Writer
	n      int64
	sum    uint32
	buffer []byte
	err    error
}

// chunk returns n bytes, to fill and write.
func (s *sealedWriter) chunk(n int) []byte {
	s.buffer = grown(s.buffer, n)
	return s.buffer[:n]
}

func (s *sealedWriter) write(b []byte) {
	if s.err != nil {
		return
	}
	s.sum = crc32.Update(s.sum, castagnoli, b)
	n, err := s.w.Write(b)
	if s.n += int64(n); err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	s.err = err
}

// seal ends a part.
func (s *sealedWriter) seal() {
	s.write(appendWords(nil, s.sum))
	s.sum = 0
}

// sealedReader reads what a sealedWriter wrote.
type sealedReader struct {
	r      io.Reader
	op     string
	n      int64
	sum    uint32
	buffer []byte
}

func (s *sealedReader) chunk(n int) []byte {
	s.buffer = grown(s.buffer, n)
	return s.buffer[:n]
}

func (s *sealedReader) refuse(field string, got any, want string, err error) error {
	return &hip.InputError{Op: s.op, Field: field, Got: got, Want: want, Err: err}
}

// read fills b.
func (s *sealedReader) read(b []byte) error {
	n, err := io.ReadFull(s.r, b)
	s.n += int64(n)
	s.sum = crc32.Update(s.sum, castagnoli, b[:n])
	switch {
	case len(b) == 0 || err == nil:
		return nil
	case errors.Is(err, io.EOF) && s.n == 0:
		return s.refuse("sequence", "empty", "what WriteTo wrote", io.EOF)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return s.refuse("sequence", fmt.Sprintf("cut after %d bytes", s.n), "all that WriteTo wrote", io.ErrUnexpectedEOF)
	}
	return s.named(err)
}

// named puts the operation before an error of another package.
func (s *sealedReader) named(err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", s.op, err)
	}
	return err
}

// sealed ends a part.
func (s *sealedReader) sealed(part string) error {
	want := s.sum
	var sum [4]byte
	if err := s.read(sum[:]); err != nil {
		return err
	}
	s.sum = 0
	if got := binary.LittleEndian.Uint32(sum[:]); got != want {
		return s.refuse("CRC-32C of "+part, fmt.Sprintf("%#08x", got), fmt.Sprintf("%#08x, that of the bytes", want), nil)
	}
	return nil
}

// grown returns a buffer of at least n bytes.
func grown(b []byte, n int) []byte {
	if n <= len(b) {
		return b
	}
	return make([]byte, n)
}
