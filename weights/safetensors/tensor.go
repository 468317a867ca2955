package safetensors

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// Tensor is one tensor of an open [File], or one that [NewTensor] made. It is an
// io.ReaderAt over its bytes: elements in row-major order, little-endian, and perhaps
// at an odd address.
type Tensor struct {
	Name  string
	Dtype Dtype
	Shape []int // empty for a scalar; the product of all entries does not overflow

	file   *File // or
	data   io.ReaderAt
	offset int64 // in the file
	size   int64
}

// NewTensor describes a tensor for [Write]. Its bytes are the first ones of data, as many
// as dtype and shape ask for; wrap a []byte in bytes.NewReader.
func NewTensor(name string, dtype Dtype, shape []int, data io.ReaderAt) *Tensor {
	t := &Tensor{Name: name, Dtype: dtype, Shape: slices.Clone(shape), data: data}
	if size, rule := t.check(); rule == "" {
		t.size = size
	}
	return t
}

// check returns the bytes of the tensor, or what is wrong with its dtype and shape.
func (t *Tensor) check() (int64, ruleText) {
	if t.Dtype.Bits() == 0 {
		return 0, ruleUnknownDtype
	}
	if slices.ContainsFunc(t.Shape, func(n int) bool { return n < 0 }) {
		return 0, ruleShape
	}
	return sizeOf(t.Dtype, t.Shape)
}

// File returns the file that holds t; nil if [NewTensor] made it.
func (t *Tensor) File() *File { return t.file }

// Offset returns where t begins, in bytes from the start of its file.
func (t *Tensor) Offset() int64 { return t.offset }

// Size returns the bytes of t: elements × bits of its dtype / 8.
func (t *Tensor) Size() int64 { return t.size }

// Bytes returns the bytes of t in place, if its file is mapped or in memory and
// open. They are read-only and end with Close: see [File.Mapping].
func (t *Tensor) Bytes() ([]byte, bool) {
	if t.file == nil {
		return nil, false
	}
	data := t.file.Mapping()
	if data == nil {
		return nil, false
	}
	end := t.offset + t.size
	return data[t.offset:end:end], true
}

// ReadAt reads into p from offset off of the tensor, never beyond its end,
// where the error is io.EOF.
func (t *Tensor) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, t.failed(fmt.Errorf("read at %d: %w", off, fs.ErrInvalid))
	}
	n := int(min(int64(len(p)), max(0, t.size-off)))
	if n > 0 {
		if err := t.read(p[:n], off); err != nil {
			return 0, t.failed(err)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// read fills p, which lies in the tensor.
func (t *Tensor) read(p []byte, off int64) error {
	if t.file != nil {
		return t.file.readAt(p, t.offset+off)
	}
	n, err := t.data.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	return wholly(err)
}

// failed says which tensor could not be read.
func (t *Tensor) failed(err error) error {
	e := &fileError{tensor: t.Name, err: err}
	if t.file != nil {
		e.file = t.file.name
	}
	return e
}
