package safetensors

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tensorOf is a tensor to be written whose bytes are data.
func tensorOf(name string, dtype Dtype, data string, shape ...int) *Tensor {
	return NewTensor(name, dtype, shape, strings.NewReader(data))
}

// TestWriteIsRead: what is written is read as it was given, and every tensor is aligned
// to its dtype.
func TestWriteIsRead(t *testing.T) {
	tensors := []*Tensor{
		tensorOf("bytes", U8, "abc", 3), tensorOf("é \"<\n", "F64", "12345678"), tensorOf("half", BF16, "hijk", 2, 1),
		tensorOf("none", "I64", "", 0, 7), tensorOf("packed", "F4", "x", 2), tensorOf("", F32, "long", 1),
	}
	for _, metadata := range []map[string]string{nil, {}, {"format": "pt", "é": "<&>"}} {
		var b bytes.Buffer
		require.NoError(t, Write(&b, metadata, tensors))
		f, err := open(b.Bytes())
		require.NoError(t, err)
		require.Equal(t, metadata, f.Metadata())
		require.Len(t, f.Tensors(), len(tensors))
		requireTiled(t, f)
		for _, want := range tensors {
			got, ok := f.Tensor(want.Name)
			require.True(t, ok, want.Name)
			require.Equal(t, want.Dtype, got.Dtype)
			require.Equal(t, append([]int{}, want.Shape...), got.Shape)
			require.Equal(t, contents(t, want), contents(t, got))
			require.Zero(t, got.Offset()%int64((got.Dtype.Bits()+7)/8), got.Name)
		}

		var again bytes.Buffer
		require.NoError(t, Write(&again, metadata, f.Tensors()), "tensors of a file")
		require.Equal(t, b.Bytes(), again.Bytes())
	}
}

func contents(t *testing.T, tensor *Tensor) []byte {
	t.Helper()
	data, err := io.ReadAll(io.NewSectionReader(tensor, 0, tensor.Size()))
	require.NoError(t, err)
	return data
}

// TestHeaderKeepsTheOrder, for a program that writes the data itself.
func TestHeaderKeepsTheOrder(t *testing.T) {
	header, err := Header(nil, []*Tensor{NewTensor("b", U8, []int{3}, nil), NewTensor("a", F32, nil, nil)})
	require.NoError(t, err)
	require.Zero(t, len(header)%8)
	f, err := open(append(header, "abcdefg"...))
	require.NoError(t, err)
	require.Equal(t, "b", f.Tensors()[0].Name)
	require.Equal(t, []byte("defg"), contents(t, f.Tensors()[1]))
}

func TestWriteRefuses(t *testing.T) {
	huge := NewTensor("u", U8, []int{math.MaxInt}, nil)
	changed := tensorOf("t", U8, "ab", 2)
	changed.Shape = []int{3}
	for name, c := range map[string]struct {
		tensors []*Tensor
		want    error
	}{
		"unknown dtype":   {[]*Tensor{tensorOf("t", "Q9", "ab", 2)}, ruleUnknownDtype},
		"negative":        {[]*Tensor{tensorOf("t", U8, "ab", -2)}, ruleShape},
		"overflow":        {[]*Tensor{tensorOf("t", U8, "ab", math.MaxInt, 3)}, ruleSizeOverflow},
		"overflow of all": {[]*Tensor{huge, NewTensor("t", U8, []int{1}, nil)}, ruleSizeOverflow},
		"part of a byte":  {[]*Tensor{tensorOf("t", "F4", "ab", 3)}, rulePartialByte},
		"too little data": {[]*Tensor{tensorOf("t", U8, "a", 2)}, ruleData},
		"too much data":   {[]*Tensor{tensorOf("t", U8, "abc", 2)}, ruleData},
		"a changed shape": {[]*Tensor{changed}, ruleSizeMismatch},
		"given twice":     {[]*Tensor{tensorOf("t", U8, "a"), tensorOf("t", U8, "a")}, ruleDuplicateKey},
		"metadata's name": {[]*Tensor{tensorOf("__metadata__", U8, "a")}, ruleName},
		"not UTF-8":       {[]*Tensor{tensorOf("\xff", U8, "a")}, ruleName},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			err := Write(&b, nil, append(c.tensors, tensorOf("good", U8, "x")))
			e, ok := errors.AsType[*FormatError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, c.want, e.Rule)
			require.Zero(t, b.Len())
		})
	}
	err := Write(io.Discard, map[string]string{"a": "\xff"}, nil)
	require.ErrorIs(t, err, ruleMetadata)
	err = Write(io.Discard, nil, []*Tensor{tensorOf("a", U8, ""), tensorOf("b", "Q9", "")})
	require.Len(t, strings.Split(err.Error(), "\n"), 2, "all problems")
}

// shortWriter takes n bytes.
type shortWriter struct{ n int }

func (w *shortWriter) Write(p []byte) (int, error) {
	if w.n -= len(p); w.n < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

func TestWriteFaults(t *testing.T) {
	tensors := []*Tensor{tensorOf("t", U8, "abcd", 4)}
	var whole bytes.Buffer
	require.NoError(t, Write(&whole, nil, tensors))
	for n := range whole.Len() {
		require.ErrorIs(t, Write(&shortWriter{n}, nil, tensors), errDisk)
	}
	require.NoError(t, Write(&shortWriter{whole.Len()}, nil, tensors))

	err := Write(io.Discard, nil, []*Tensor{NewTensor("t", U8, []int{4}, faultyReaderAt{strings.NewReader("abcd"), 3})})
	require.ErrorIs(t, err, errDisk)
	require.ErrorContains(t, err, `tensor "t"`)
	err = Write(io.Discard, nil, []*Tensor{NewTensor("t", U8, []int{4}, struct{ io.ReaderAt }{strings.NewReader("abc")})})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
