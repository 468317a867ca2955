package weights

import (
	"fmt"
	"io"
	"io/fs"
)

// Tensor is one tensor of an open [File]. It is an io.ReaderAt over its bytes:
// elements in row-major order, little-endian, and perhaps at an odd address.
type Tensor struct {
	Name  string
	Dtype Dtype
	Shape []int // empty for a scalar; no product of its entries overflows

	file   *File
	offset int64
	size   int64
}

// File returns the file that holds t.
func (t *Tensor) File() *File { return t.file }

// Offset returns where t begins, in bytes from the start of its file.
func (t *Tensor) Offset() int64 { return t.offset }

// Size returns the bytes of t: elements × bits of its dtype / 8.
func (t *Tensor) Size() int64 { return t.size }

// Bytes returns the bytes of t in place, if its file is mapped or in memory and
// open. They are read-only and end with Close: see [File.Mapping].
func (t *Tensor) Bytes() ([]byte, bool) {
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
		return 0, fmt.Errorf("%s: tensor %s: read at %d: %w", t.file.name, quote(t.Name), off, fs.ErrInvalid)
	}
	n := int(min(int64(len(p)), max(0, t.size-off)))
	if n > 0 {
		if err := t.file.readAt(p[:n], t.offset+off); err != nil {
			return 0, fmt.Errorf("tensor %s: %w", quote(t.Name), err)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// String returns name, dtype and shape on one line.
func (t *Tensor) String() string { return fmt.Sprintf("%s %v %v", t.Name, t.Dtype, t.Shape) }
