package mtp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
)

// A sequence as bytes, little-endian: what the head that reads must have alike, what the
// sequence carries, and then its pages as package attention writes them. The first two parts
// each end with their CRC-32C.
//
//	head      magic [8], version, hidden_size, num_mtp_modules, steps that shift tokens or 0,
//	          1 with Options.PostNorm, Sequence.whole, 1 if states are carried, the rank
//	          whose share of attention it is, and of how many                    uint32 each,
//	          the rule's name [24], padded with zeros
//	carried   hidden states of the last rows [min(steps−1, whole), hidden_size] float32
const (
	bytesMagic   = "dhmtpsq\n"
	bytesVersion = 1
	headWords    = 9
	ruleBytes    = 24
	headBytes    = len(bytesMagic) + 4*headWords + ruleBytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteTo writes the sequence, which stays as it is, for [Cache.ReadSequence]: keys, values
// and index keys of all layers, where they are, and what the chain carries. With it an engine
// moves a sequence to another machine, or out of the cache and back in without computing
// anything again. It copies in chunks of a few megabytes, and returns the number of bytes.
// The error is w's or the device's, [ErrClosed], or that another call uses the sequence.
func (s *Sequence) WriteTo(w io.Writer) (n int64, err error) {
	if err := s.enter("write sequence"); err != nil {
		return 0, err
	}
	defer s.leave()
	if err := s.cache.enter(); err != nil {
		return 0, err
	}
	defer s.cache.head.leave()
	head, carried := s.head(), []byte(nil)
	for _, state := range s.carry[:s.carries()] {
		for _, v := range state {
			carried = binary.LittleEndian.AppendUint32(carried, math.Float32bits(v))
		}
	}
	for _, part := range [][]byte{head, carried} {
		m, err := w.Write(binary.LittleEndian.AppendUint32(part, crc32.Checksum(part, castagnoli)))
		if n += int64(m); err != nil {
			return n, fmt.Errorf("mtp: write sequence: %w", err)
		}
	}
	pages, err := s.kv.WriteTo(w)
	return n + pages, ofAttention("mtp: write sequence", err)
}

// ReadSequence returns a sequence with what [Sequence.WriteTo] wrote, of this head or of
// another of the same geometry, rule and cache format, on any device. A rank of a parallel
// head reads what the same rank of another one wrote. On the same kind of
// device it drafts the same bits. That the weights are the same is not checked. It reads no
// byte more than was written.
//
// Bytes of another head or version, or damaged ones, are an [InputError] that names what
// differs. It wraps [io.ErrUnexpectedEOF] if the bytes end early, and [io.EOF] if there are
// none. A cache with too few free pages is an [attention.CacheFullError], and one that is
// used with block tables an InputError; other errors are r's or the device's, or
// [ErrClosed]. On any error no page is taken.
func (c *Cache) ReadSequence(r io.Reader) (*Sequence, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.head.leave()
	in := &partReader{r: r}
	s := &Sequence{cache: c}
	if err := s.readHead(in); err != nil {
		return nil, err
	}
	kv, err := c.kv.ReadSequence(in)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // after the parts of this package
		return nil, in.cut()
	case err != nil:
		return nil, ofAttention("mtp: read sequence", err)
	}
	s.kv = kv
	if n := kv.Len(); s.whole > n || s.carry != nil && s.whole < n {
		err := in.refuse("rows", n, fmt.Sprintf("%d, those of what is carried", s.whole), nil)
		return nil, errors.Join(err, kv.Close())
	}
	return s, nil
}

// carries returns how many hidden states the sequence carries.
func (s *Sequence) carries() int {
	if s.carry == nil {
		return 0
	}
	return min(len(s.carry), s.whole)
}

// head is the first part.
func (s *Sequence) head() []byte {
	h := s.cache.head
	words := [headWords]uint32{bytesVersion, uint32(h.config.HiddenSize), uint32(h.config.NumMTPModules)}
	if h.chain.shifts() {
		words[3] = uint32(h.alignedSteps())
	}
	if h.options.PostNorm {
		words[4] = 1
	}
	if words[5] = uint32(s.whole); s.carry != nil {
		words[6] = 1
	}
	share := h.options.parallel().tensor
	words[7], words[8] = uint32(share.Rank), uint32(max(1, share.Size))
	b := []byte(bytesMagic)
	for _, v := range words {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return append(append(b, h.chain...), make([]byte, ruleBytes-len(h.chain))...)
}

// readHead compares the first part with the head, and reads what the sequence carries.
func (s *Sequence) readHead(in *partReader) error {
	h, want, got := s.cache.head, s.head(), make([]byte, headBytes)
	const version = len(bytesMagic) + 4
	word := func(b []byte, i int) int { return int(binary.LittleEndian.Uint32(b[len(bytesMagic)+4*i:])) }
	if err := in.read(got[:version]); err != nil {
		return err
	}
	if magic := got[:len(bytesMagic)]; string(magic) != bytesMagic {
		return in.refuse("magic", fmt.Sprintf("%q", magic), fmt.Sprintf("%q", bytesMagic), nil)
	}
	if v := word(got, 0); v != bytesVersion {
		return in.refuse("version", v, fmt.Sprint(bytesVersion), nil)
	}
	if err := in.read(got[version:]); err != nil {
		return err
	}
	if err := in.sealed("the head"); err != nil {
		return err
	}
	if rule := got[headBytes-ruleBytes:]; !slices.Equal(rule, want[headBytes-ruleBytes:]) {
		for len(rule) > 0 && rule[len(rule)-1] == 0 {
			rule = rule[:len(rule)-1]
		}
		return in.refuse("Options.Chain", fmt.Sprintf("%q", rule), fmt.Sprintf("%q, the head's", h.chain), nil)
	}
	for i, field := range []string{1: "hidden_size", 2: "num_mtp_modules", 3: "steps of the chain", 4: "Options.PostNorm (1: set)", 7: "rank of TensorParallel", 8: "ranks of TensorParallel"} {
		if field == "" {
			continue // the sequence's own
		}
		if was, is := word(got, i), word(want, i); was != is {
			return in.refuse(field, was, fmt.Sprintf("%d, the head's", is), nil)
		}
	}
	positions, carried := h.geometry.Rope.Positions, word(got, 6)
	if s.whole = word(got, 5); s.whole < 0 || s.whole > positions || s.whole > 0 && !h.chain.shifts() {
		return in.refuse("rows of the chain", s.whole, fmt.Sprintf("0 to %d, and 0 unless it shifts tokens", positions), nil)
	}
	if carried > 1 || carried == 1 && !h.chain.shifts() {
		return in.refuse("carried", carried, "0, or 1 in a chain that shifts tokens", nil)
	}
	if carried == 1 {
		s.carry = make([][]float32, h.alignedSteps()-1)
	}
	raw := make([]byte, 4*h.config.HiddenSize)
	for i := range s.carries() {
		if err := in.read(raw); err != nil {
			return err
		}
		s.carry[i] = make([]float32, h.config.HiddenSize)
		for j := range s.carry[i] {
			s.carry[i][j] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*j:]))
		}
	}
	return in.sealed("what is carried")
}

// partReader reads parts that end with their CRC-32C, and counts all bytes.
type partReader struct {
	r   io.Reader
	n   int64
	sum uint32
}

func (p *partReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	return n, err
}

func (p *partReader) refuse(field string, got any, want string, err error) error {
	return &InputError{Op: "mtp: read sequence", Field: field, Got: got, Want: want, Err: err}
}

// cut is the error of bytes that end early.
func (p *partReader) cut() error {
	return p.refuse("sequence", fmt.Sprintf("cut after %d bytes", p.n), "all that WriteTo wrote", io.ErrUnexpectedEOF)
}

// read fills b.
func (p *partReader) read(b []byte) error {
	n, err := io.ReadFull(p, b)
	p.sum = crc32.Update(p.sum, castagnoli, b[:n])
	switch {
	case err == nil:
		return nil
	case p.n == 0 && errors.Is(err, io.EOF):
		return p.refuse("sequence", "empty", "what WriteTo wrote", io.EOF)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return p.cut()
	}
	return fmt.Errorf("mtp: read sequence: %w", err)
}

// sealed ends a part.
func (p *partReader) sealed(part string) error {
	var sum [4]byte
	want := p.sum
	if err := p.read(sum[:]); err != nil {
		return err
	}
	p.sum = 0
	if got := binary.LittleEndian.Uint32(sum[:]); got != want {
		return p.refuse("CRC-32C of "+part, fmt.Sprintf("%#08x", got), fmt.Sprintf("%#08x, that of the bytes", want), nil)
	}
	return nil
}
