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

// Bytes returns the bytes of t in place, if they are mapped or in memory and its file is
// open: see [Tensor.Mapping].
func (t *Tensor) Bytes() ([]byte, bool) {
	mem, at := t.Mapping()
	if mem == nil {
		return nil, false
	}
	return mem[at : at+t.size : at+t.size], true
}

// Mapping returns the bytes in memory that t lies in, and where in them it begins: a
// stretch of its file that is mapped, or all of one that is in memory. A device that adopts
// the stretch has all of its tensors. mem is nil if t is neither mapped nor in memory, and
// once its file is closed. It must not be written, nor read after Close: in a mapping either
// ends the program.
func (t *Tensor) Mapping() (mem []byte, at int64) {
	if t.file == nil {
		return nil, 0
	}
	t.file.mu.RLock()
	defer t.file.mu.RUnlock()
	p := t.file.backing.holding(t.offset, t.size)
	if p == nil {
		return nil, 0
	}
	return p.data, t.offset - p.offset
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
