package attention

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// written is a sequence as bytes.
func written(t testing.TB, s *Sequence) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	require.NoError(t, err)
	require.Equal(t, int64(b.Len()), n)
	return b.Bytes()
}

// holed is a sequence of 21 positions, in pages out of order, of which the second layer holds
// some, and whose last page another has used before.
func holed(t *testing.T, c *Cache) *modeled {
	t.Helper()
	dirty, m := newModeled(c), newModeled(c)
	dirty.grow(t, 0, 0, 24, 7)
	dirty.grow(t, 1, 0, 24, 8)
	m.grow(t, 0, 0, 3, 1)
	require.NoError(t, dirty.seq.Close())
	m.grow(t, 0, 3, 21, 2)
	m.grow(t, 1, 5, 6, 3)
	m.grow(t, 1, 13, 18, 4)
	return m
}

// TestSequenceBytes: what is read is what was written, in a cache of other pages on another
// device, and no byte more is read. The bytes depend on the sequence alone.
func TestSequenceBytes(t *testing.T) {
	from, to := hip.NewReference(), hip.NewHost(2)
	t.Cleanup(func() { require.NoError(t, errors.Join(from.Close(), to.Close())) })
	c, other := newCache(t, from, tiny(), modelLayers, 24, CacheF32), newCache(t, to, tiny(), modelLayers, 13, CacheF32)
	m := holed(t, c)
	require.NoError(t, m.seq.Reserve(9))
	fork, err := m.seq.Fork()
	require.NoError(t, err)
	raw := written(t, m.seq)
	require.Equal(t, raw, written(t, fork))
	require.NoError(t, fork.Close())

	taken := newModeled(other)
	taken.grow(t, 0, 0, 9, 1)
	stream := bytes.NewReader(append(bytes.Clone(raw), "more"...))
	read, err := other.ReadSequence(iotest.OneByteReader(stream))
	require.NoError(t, err)
	require.Equal(t, 4, stream.Len())
	copied := m.fork(read)
	copied.pages = blocksFor(m.length, c.geometry.BlockSize) // reserved ones are not written
	requireModel(t, other, []*modeled{taken, copied})
	require.Equal(t, raw, written(t, read), "whatever pages held before")

	copied.grow(t, 1, 6, 13, 5)
	copied.grow(t, 0, 21, 30, 5)
	requireModel(t, other, []*modeled{taken, copied})

	empty, err := other.ReadSequence(bytes.NewReader(written(t, c.NewSequence())))
	require.NoError(t, err)
	require.Zero(t, empty.Len())
}

// TestSequenceBytesInChunks: a sequence of more bytes than a chunk, in runs of pages.
func TestSequenceBytesInChunks(t *testing.T) {
	d := hip.NewHost(2)
	t.Cleanup(func() { _ = d.Close() })
	g := tiny()
	g.BlockSize, g.HeadDim = 64, 1024
	for _, format := range []CacheFormat{CacheBF16, CacheF32, CacheFP8, CacheFP8Index} {
		c := newCache(t, d, g, 1, 80, format)
		s, other := c.NewSequence(), c.NewSequence()
		grow := func(s *Sequence, from, to int) {
			tx, err := c.Begin(Claim{Sequence: s, From: from, To: to})
			require.NoError(t, err)
			_, err = tx.Span(0, 0, from, to-from)
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
		}
		grow(s, 0, 64*19+5)
		grow(other, 0, 1)
		grow(s, 64*19+5, 64*40+3) // from the page after the next on
		random, keyBytes := rand.New(rand.NewPCG(1, 1)), int64(0)
		for i, p := range c.layers[0].buffers() {
			_, sizes, err := c.Buffers(0)
			require.NoError(t, err)
			values := make([]byte, sizes[i]*int64(c.Pages()))
			for j := 0; j < len(values); j += 8 {
				binary.LittleEndian.PutUint64(values[j:], random.Uint64())
			}
			require.NoError(t, d.Write(p, values))
			keyBytes += sizes[i]
		}
		raw := written(t, s)
		require.Greater(t, len(raw), 2*chunkBytes)
		require.Equal(t, int64(preambleBytes+4+8+4+4)+41*keyBytes, int64(len(raw)))
		next := newCache(t, d, g, 1, 41, format)
		read, err := next.ReadSequence(bytes.NewReader(raw))
		require.NoError(t, err)
		require.Equal(t, raw, written(t, read))
	}
}

// TestBadSequenceBytes: bytes that are cut or changed anywhere, and those of another cache,
// are errors that say what differs, and no page is taken.
func TestBadSequenceBytes(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), modelLayers, 24, CacheF32)
	m := holed(t, c)
	raw := written(t, m.seq)
	refused := func(c *Cache, raw []byte) error {
		t.Helper()
		free := c.FreePages()
		s, err := c.ReadSequence(bytes.NewReader(raw))
		require.Error(t, err)
		require.Nil(t, s)
		require.Equal(t, free, c.FreePages())
		return err
	}
	require.EqualError(t, refused(c, nil), "attention: read sequence: sequence is empty, want what WriteTo wrote: EOF")
	for n := 1; n < len(raw); n++ {
		err := refused(c, raw[:n])
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%d of %d bytes", n, len(raw))
		require.ErrorIs(t, err, hip.ErrInput)
		require.EqualError(t, err, fmt.Sprintf("attention: read sequence: sequence is cut after %d bytes, want all that WriteTo wrote: unexpected EOF", n))
	}
	for i := range raw {
		flipped := bytes.Clone(raw)
		flipped[i] ^= 1 << (i % 8)
		require.ErrorIs(t, refused(c, flipped), hip.ErrInput, "byte %d of %d", i, len(raw))
	}
	version := bytes.Clone(raw)
	version[8] = 1
	require.EqualError(t, refused(c, version), "attention: read sequence: version is 1, want 2")
	require.ErrorContains(t, refused(c, []byte("GIF89a and more than that")), `magic is "GIF89a a", want "dhkvseq\n"`)

	for name, other := range map[string]struct {
		change func(g *Geometry)
		layers int
		format CacheFormat
		says   string
	}{
		"KV heads":  {func(g *Geometry) { g.KVHeads = 1 }, modelLayers, CacheF32, "KVHeads is 2, want 1, the cache's"},
		"head dim":  {func(g *Geometry) { g.HeadDim *= 2 }, modelLayers, CacheF32, "HeadDim is "},
		"index dim": {func(g *Geometry) { g.IndexDim *= 2 }, modelLayers, CacheF32, "IndexDim is "},
		"page":      {func(g *Geometry) { g.BlockSize = 8 }, modelLayers, CacheF32, "BlockSize is 4, want 8, the cache's"},
		"rope":      {func(g *Geometry) { g.Rope.AttentionFactor = 1.5 }, modelLayers, CacheF32, "CRC-32C of the Rope is "},
		"layers":    {func(*Geometry) {}, modelLayers + 1, CacheF32, "layers is 2, want 3, the cache's"},
		"format":    {func(*Geometry) {}, modelLayers, CacheBF16, "format is F32, want BF16, the cache's"},
		"positions": {func(g *Geometry) { g.Rope.Positions = 20 }, modelLayers, CacheF32, "positions is 21, want at most 20, those that there are: position out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			g := tiny()
			other.change(&g)
			err := refused(newCache(t, d, g, other.layers, 24, other.format), raw)
			require.ErrorIs(t, err, hip.ErrInput)
			require.ErrorContains(t, err, "attention: read sequence: "+other.says)
		})
	}
	small := newCache(t, d, tiny(), modelLayers, 5, CacheF32)
	requireFull(t, refused(small, raw), 6, 5)
	require.NoError(t, small.Close())
	require.EqualError(t, refused(small, raw), "attention: read sequence: cache is closed")
	tables := newCache(t, d, tiny(), modelLayers, 8, CacheF32)
	tx, err := tables.Begin(Claim{BlockTable: []int32{1}, To: 1})
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	require.EqualError(t, refused(tables, raw), "attention: read sequence: cache is used with BlockTables, want Sequences or BlockTables, not both")
	_, err = new(Cache).ReadSequence(bytes.NewReader(raw))
	require.ErrorIs(t, err, hip.ErrInput)
	_, err = c.ReadSequence(iotest.ErrReader(errFault))
	require.ErrorIs(t, err, errFault)
	require.NotErrorIs(t, err, hip.ErrInput)
	require.Panics(t, func() { _, _ = c.ReadSequence(io.MultiReader(bytes.NewReader(raw[:200]), nil)) })

	_, err = m.seq.WriteTo(iotest.TruncateWriter(io.Discard, 0))
	require.NoError(t, err)
	_, err = m.seq.WriteTo(failing{})
	require.EqualError(t, err, "attention: write sequence: "+errFault.Error())
	tx, err = c.Begin(Claim{Sequence: m.seq, From: m.length, To: m.length + 1})
	require.NoError(t, err)
	_, err = m.seq.WriteTo(io.Discard)
	require.EqualError(t, err, "attention: write sequence: sequence is in use")
	require.NoError(t, tx.Rollback())
	requireModel(t, c, []*modeled{m})
	require.NoError(t, c.Close())
	_, err = m.seq.WriteTo(io.Discard)
	require.ErrorIs(t, err, ErrClosed)
	require.NoError(t, m.seq.Close())
	_, err = m.seq.WriteTo(io.Discard)
	require.EqualError(t, err, "attention: write sequence: sequence is closed")
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFault }

// TestSequenceBytesOfAFailingDevice: whichever access fails, no page is taken.
func TestSequenceBytesOfAFailingDevice(t *testing.T) {
	d := hiptest.NewFaulty(hip.NewReference(), errFault)
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), modelLayers, 24, CacheF32)
	m := holed(t, c)
	raw, free := written(t, m.seq), c.FreePages()
	for _, way := range []struct {
		op  string
		use func() error
	}{
		{"read", func() error { _, err := m.seq.WriteTo(io.Discard); return err }},
		{"write", func() error { _, err := c.ReadSequence(bytes.NewReader(raw)); return err }},
	} {
		failed := 0
		for n := 1; ; n++ {
			d.FailAt(n, way.op)
			err := way.use()
			d.FailAt(0)
			if err == nil {
				break
			}
			require.ErrorIs(t, err, errFault)
			require.NotErrorIs(t, err, hip.ErrInput)
			require.Equal(t, free, c.FreePages())
			failed++
		}
		require.GreaterOrEqual(t, failed, 6, "%s", way.op)
		free = c.FreePages()
	}
	requireModelOf(t, m)
}

// requireModelOf checks that a sequence is in order beside others.
func requireModelOf(t *testing.T, m *modeled) {
	t.Helper()
	require.Equal(t, m.length, m.seq.Len())
	for layer, contents := range m.contents {
		for p, want := range contents {
			for _, at := range m.seq.places(layer, p) {
				require.Equal(t, []float32{want}, get[float32](t, m.seq.cache.device, at, 1))
			}
		}
	}
}

// resealed returns bytes whose CRCs are right, as far as the parts can be told.
func resealed(raw []byte, layers int) []byte {
	raw = bytes.Clone(raw)
	seal := func(from, to int) bool {
		if to < from || to+4 > len(raw) {
			return false
		}
		binary.LittleEndian.PutUint32(raw[to:], crc32.Checksum(raw[from:to], castagnoli))
		return true
	}
	if !seal(0, preambleBytes) {
		return raw
	}
	at := preambleBytes + 4
	for range layers {
		if at+8 > len(raw) {
			return raw
		}
		at += 8 + 4*int(binary.LittleEndian.Uint32(raw[at+4:])&0xffffff)
	}
	if seal(preambleBytes+4, at) {
		seal(at+4, len(raw)-4)
	}
	return raw
}

// FuzzReadSequence: whatever the bytes are, with right CRCs too, they are refused and no page
// is taken, or they are those of the sequence that was read.
func FuzzReadSequence(f *testing.F) {
	d := hip.NewReference()
	g := tiny()
	g.Heads, g.KVHeads, g.HeadDim, g.IndexDim, g.Rope.Positions = 1, 1, 2, 2, 40
	g.Rope.Frequencies = nil
	c, err := NewCache(d, g, 2, 6, CacheBF16)
	require.NoError(f, err)
	s := c.NewSequence()
	f.Add(written(f, s), true)
	tx, err := c.Begin(Claim{Sequence: s, To: 9})
	require.NoError(f, err)
	for _, at := range [][3]int{{0, 0, 9}, {1, 2, 1}, {1, 5, 3}} {
		_, err := tx.Span(0, at[0], at[1], at[2])
		require.NoError(f, err)
	}
	require.NoError(f, tx.Commit())
	f.Add(written(f, s), true)
	f.Add(written(f, s), false)
	require.NoError(f, s.Close())
	f.Fuzz(func(t *testing.T, raw []byte, right bool) {
		if right {
			raw = resealed(raw, 2)
		}
		in := bytes.NewReader(raw)
		s, err := c.ReadSequence(in)
		if err != nil {
			require.True(t, errors.Is(err, hip.ErrInput) || errors.Is(err, ErrCacheFull), err)
			require.Equal(t, c.Pages(), c.FreePages())
			return
		}
		require.LessOrEqual(t, s.Len(), 40)
		var again bytes.Buffer
		_, err = s.WriteTo(&again)
		require.NoError(t, err)
		next, err := c.ReadSequence(&again)
		if err == nil {
			require.Equal(t, s.written, next.written)
			require.NoError(t, next.Close())
		} else {
			require.ErrorIs(t, err, ErrCacheFull)
		}
		require.NoError(t, s.Close())
		require.Equal(t, c.Pages(), c.FreePages())
	})
}
