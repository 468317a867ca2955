package mtp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// written is a sequence as bytes.
func written(t testing.TB, s *mtp.Sequence) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	require.NoError(t, err)
	require.Equal(t, int64(b.Len()), n)
	return b.Bytes()
}

// TestSequenceMoves: a sequence goes on in another head of the checkpoint, on a device of the
// same kind with the same bits, whatever was done to it before, and from one stream after
// another. The one that was written goes on too.
func TestSequenceMoves(t *testing.T) {
	const n = 13
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			files, x := synthetic{modules: c.modules}.files(t), randomPassage(600, n+4)
			options := c.options()
			options.CacheFormat = attention.CacheBF16
			head, other := load(t, files, options), load(t, files, options)
			cache, next := newCache(t, head, 40), newCache(t, other, 40)
			draft(t, other, randomPassage(601, 7).batch(next.NewSequence(), 0, 7), 3) // pages are others, and not clean
			var stream bytes.Buffer
			changes := []func(s *mtp.Sequence){
				func(*mtp.Sequence) {},
				func(s *mtp.Sequence) { require.NoError(t, s.Truncate(n-2)) },
				func(s *mtp.Sequence) { require.NoError(t, s.Truncate(1)) },
				func(s *mtp.Sequence) { require.NoError(t, s.Truncate(0)) },
				func(s *mtp.Sequence) { forward(t, head, x.batch(s, n, n+2), 0) },
				func(s *mtp.Sequence) { forward(t, head, x.batch(s, n-3, n), c.modules-1) },
				func(s *mtp.Sequence) { require.NoError(t, s.Reserve(11)) },
			}
			var moved []*mtp.Sequence
			for _, change := range changes {
				s := cache.NewSequence()
				draft(t, head, x.batch(s, 0, n-1), 3)
				draft(t, head, x.batch(s, n-1, n), 4)
				change(s)
				_, err := s.WriteTo(&stream)
				require.NoError(t, err)
				moved = append(moved, s)
			}
			for i, s := range moved {
				read, err := next.ReadSequence(iotest.HalfReader(&stream))
				require.NoError(t, err)
				require.Equal(t, []int{s.Len(), s.Resume()}, []int{read.Len(), read.Resume()})
				require.Equal(t, written(t, s), written(t, read))
				want := draft(t, head, x.batch(s, s.Resume(), n+4), 4)
				require.Equal(t, want, draft(t, other, x.batch(read, read.Resume(), n+4), 4), "change %d", i)
				require.NoError(t, s.Close())
				require.NoError(t, read.Close())
			}
			_, err := next.ReadSequence(&stream)
			require.ErrorIs(t, err, io.EOF)
			require.EqualError(t, err, "mtp: read sequence: sequence is empty, want what WriteTo wrote: EOF")
		})
	}
}

// TestSequenceMovesToAnotherDevice: the host goes on from what the reference has written.
func TestSequenceMovesToAnotherDevice(t *testing.T) {
	const n = 11
	for _, c := range []chainCase{chainCases[0], chainCases[5], chainCases[8], chainCases[9]} {
		files, x := synthetic{modules: c.modules}.files(t), randomPassage(602, n+3)
		on := func(d hip.Device) (*mtp.Head, *mtp.Sequence) {
			options := c.options()
			options.Device = openDevice(t, d)
			head := load(t, files, options)
			return head, newCache(t, head, 12).NewSequence()
		}
		head, s := on(hip.NewReference())
		draft(t, head, x.batch(s, 0, n), 4)
		host, _ := on(hip.NewHost(2))
		read, err := newCache(t, host, 12).ReadSequence(bytes.NewReader(written(t, s)))
		require.NoError(t, err)
		require.Equal(t, draft(t, head, x.batch(s, n, n+3), 4).ids(), draft(t, host, x.batch(read, n, n+3), 4).ids(), c.name)
	}
}

// TestBadSequenceBytes: bytes that are cut or changed anywhere, and those of another head, are
// errors that say what differs. No page is taken.
func TestBadSequenceBytes(t *testing.T) {
	const n = 9
	aligned := mtp.Options{Chain: mtp.ChainAligned, MaxDraft: 3}
	head, x := load(t, synthetic{modules: 2}.files(t), aligned), randomPassage(603, n)
	cache := newCache(t, head, 5)
	s := cache.NewSequence()
	draft(t, head, x.batch(s, 0, n), 3)
	raw := written(t, s)
	require.NoError(t, s.Close())
	refused := func(c *mtp.Cache, r io.Reader) error {
		t.Helper()
		free := c.FreePages()
		s, err := c.ReadSequence(r)
		require.Error(t, err)
		require.Nil(t, s)
		require.Equal(t, free, c.FreePages())
		return err
	}
	pages := bytes.Index(raw, []byte("dhkvseq")) // from here on package attention tests every byte
	require.Greater(t, pages, 2*4*hiddenSize)
	step := func(i int) int {
		if i < pages+8 {
			return 1
		}
		return 29
	}
	for end := 1; end < len(raw); end += step(end) {
		err := refused(cache, bytes.NewReader(raw[:end]))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.EqualError(t, err, fmt.Sprintf("mtp: read sequence: sequence is cut after %d bytes, want all that WriteTo wrote: unexpected EOF", end))
	}
	for i := 0; i < len(raw); i += step(i) {
		flipped := bytes.Clone(raw)
		flipped[i] ^= 1 << (i % 8)
		require.ErrorIs(t, refused(cache, bytes.NewReader(flipped)), mtp.ErrInput, "byte %d of %d", i, len(raw))
	}
	version := bytes.Clone(raw)
	version[8]++
	require.EqualError(t, refused(cache, bytes.NewReader(version)), "mtp: read sequence: version is 2, want 1")
	require.EqualError(t, refused(cache, bytes.NewReader(make([]byte, 99))), `mtp: read sequence: magic is "\x00\x00\x00\x00\x00\x00\x00\x00", want "dhmtpsq\n"`)

	for _, other := range []struct {
		layout  synthetic
		options mtp.Options
		says    string
	}{
		{synthetic{modules: 2}, mtp.Options{Chain: mtp.ChainTarget, MaxDraft: 3}, `Options.Chain is "chain_aligned", want "chain_target", the head's`},
		{synthetic{modules: 2}, mtp.Options{Chain: mtp.ChainFirst}, `Options.Chain is "chain_aligned", want "chain", the head's`},
		{synthetic{modules: 3}, aligned, "num_mtp_modules is 2, want 3, the head's"},
		{synthetic{modules: 2}, mtp.Options{Chain: mtp.ChainAligned, MaxDraft: 4}, "steps of the chain is 3, want 4, the head's"},
		{synthetic{modules: 2}, mtp.Options{Chain: mtp.ChainAligned, MaxDraft: 3, PostNorm: true}, "Options.PostNorm (1: set) is 0, want 1, the head's"},
		{synthetic{modules: 2}, mtp.Options{Chain: mtp.ChainAligned, MaxDraft: 3, CacheFormat: attention.CacheF32}, "format is BF16, want F32, the cache's"},
		{synthetic{modules: 2, config: []edit{set("sparse_attention_config.sparse_block_size", "8")}}, aligned, "BlockSize is 4, want 8, the cache's"},
		{synthetic{modules: 2, config: []edit{set("rope_theta", "20000")}}, aligned, "CRC-32C of the Rope is "},
	} {
		err := refused(newCache(t, load(t, other.layout.files(t), other.options), 5), bytes.NewReader(raw))
		require.ErrorIs(t, err, mtp.ErrInput)
		require.ErrorContains(t, err, "mtp: read sequence: "+other.says)
	}

	require.ErrorIs(t, refused(newCache(t, head, 2), bytes.NewReader(raw)), attention.ErrCacheFull)
	tables := newCache(t, head, 5)
	b := x.batch(nil, 0, n)
	b.Sequences[0].BlockTable, b.Cache = []int32{0, 1, 2}, tables
	draft(t, head, b, 1)
	require.ErrorIs(t, refused(tables, bytes.NewReader(raw)), mtp.ErrInput)
	broken := errors.New("broken")
	err := refused(cache, io.MultiReader(bytes.NewReader(raw[:20]), iotest.ErrReader(broken)))
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, mtp.ErrInput)
	require.ErrorIs(t, refused(cache, io.MultiReader(bytes.NewReader(raw[:500]), iotest.ErrReader(broken))), broken)

	good, err := cache.ReadSequence(bytes.NewReader(raw))
	require.NoError(t, err)
	for _, room := range []int{0, 50, 200, 400} {
		_, err := good.WriteTo(&short{room})
		require.ErrorIs(t, err, io.ErrShortWrite, "%d bytes", room)
	}
	require.Equal(t, raw, written(t, good))
	require.NoError(t, good.Close())
	_, err = good.WriteTo(io.Discard)
	require.ErrorIs(t, err, mtp.ErrClosed)
	require.NoError(t, cache.Close())
	require.ErrorIs(t, refused(cache, bytes.NewReader(raw)), mtp.ErrClosed)
	_, err = new(mtp.Sequence).WriteTo(io.Discard)
	require.ErrorIs(t, err, mtp.ErrInput)
	_, err = new(mtp.Cache).ReadSequence(bytes.NewReader(raw))
	require.ErrorIs(t, err, mtp.ErrInput)
}

// short has room for some bytes.
type short struct{ room int }

func (s *short) Write(b []byte) (int, error) {
	n := min(len(b), s.room)
	if s.room -= n; n < len(b) {
		return n, io.ErrShortWrite
	}
	return n, nil
}
