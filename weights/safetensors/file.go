package safetensors

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
)

// File is an open safetensors file. Its methods may be called from several
// goroutines at once.
type File struct {
	name      string
	size      int64
	dataStart int64 // where the data section begins; it need not be aligned
	tensors   []*Tensor
	byName    map[string]*Tensor
	metadata  map[string]string

	mu      sync.RWMutex // held for reading while the contents are used
	closed  bool
	backing backing
}

// backing is where the bytes of a file are.
type backing struct {
	data   []byte       // the whole file, if it is mapped or in memory
	r      io.ReaderAt  // otherwise
	mapped bool         // data is a mapping
	close  func() error // may be nil
}

// inMemory is an fs.File whose contents lie in memory already.
type inMemory interface {
	fs.File
	Bytes() []byte
}

// Open opens the file called name in fsys and checks all of its header against the format.
// The error joins a [*FormatError] for everything that is wrong.
//
// An *os.File, which is what os.DirFS opens, is mapped into memory on unix, so that tensors
// are used in place and the kernel keeps one copy for all processes; it must not be
// truncated while it is open. A file with a method Bytes() []byte, which returns all of its
// contents, has them in memory already: weights that a program keeps, makes or receives. It
// stays open and is used in place too; its bytes must neither change nor move until it is
// closed. Another file that is an io.ReaderAt stays open and is read as needed; any other
// is read into memory.
func Open(fsys fs.FS, name string) (*File, error) {
	var f *File
	b, size, err := openBacking(fsys, name)
	if err == nil {
		f, err = newFile(name, b, size)
	}
	if err != nil {
		if released := b.release(name); released != nil {
			err = errors.Join(err, released)
		}
		return nil, err
	}
	return f, nil
}

// openBacking opens a file and finds the best way to its bytes.
func openBacking(fsys fs.FS, name string) (b backing, size int64, err error) {
	f, size, err := openRegular(fsys, name)
	if err != nil {
		return backing{}, 0, err
	}
	keep := false
	defer func() {
		if !keep {
			if closed := f.Close(); closed != nil {
				err = errors.Join(err, &fileError{file: name, err: closed})
			}
		}
	}()
	if file, ok := f.(*os.File); ok {
		data, err := mapFile(file, size)
		if err == nil {
			return backing{data: data, mapped: true, close: func() error { return unmapFile(data) }}, size, nil
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			return backing{}, 0, &fileError{file: name, err: err}
		}
	}
	if m, ok := f.(inMemory); ok {
		data := m.Bytes()
		if int64(len(data)) != size {
			return backing{}, 0, &FormatError{File: name, Rule: ruleTruncated, Got: byteCount(int64(len(data))), Want: byteCount(size)}
		}
		keep = true
		return backing{data: data, close: f.Close}, size, nil
	}
	if r, ok := f.(io.ReaderAt); ok {
		keep = true
		return backing{r: r, close: f.Close}, size, nil
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return backing{}, 0, &fileError{file: name, err: err}
	}
	return backing{data: data}, int64(len(data)), nil
}

// newFile reads the header of a file of size bytes. Its errors leave b to the caller.
func newFile(name string, b backing, size int64) (*File, error) {
	f := &File{name: name, size: size, backing: b}
	text, err := f.readHeader()
	if err != nil {
		return nil, f.orKind(err)
	}
	f.dataStart = headerLengthSize + int64(len(text))
	h, err := parseHeader(name, text, size-f.dataStart)
	if err != nil {
		return nil, f.orKind(err)
	}
	f.metadata = h.metadata
	f.tensors = make([]*Tensor, len(h.entries))
	f.byName = make(map[string]*Tensor, len(h.entries))
	all := make([]Tensor, len(h.entries))
	for i, e := range h.entries {
		all[i] = Tensor{Name: e.name, Dtype: e.dtype, Shape: e.shape, file: f, offset: f.dataStart + e.begin, size: e.end - e.begin}
		f.tensors[i] = &all[i]
		f.byName[e.name] = &all[i]
	}
	return f, nil
}

// readHeader returns the JSON header.
func (f *File) readHeader() ([]byte, error) {
	broken := func(rule ruleText, got, want string) error {
		return &FormatError{File: f.name, Rule: rule, Got: got, Want: want}
	}
	if f.size < headerLengthSize {
		return nil, broken(ruleFileTooSmall, byteCount(f.size), "at least "+byteCount(headerLengthSize))
	}
	var length [headerLengthSize]byte
	if err := f.readAt(length[:], 0); err != nil {
		return nil, &fileError{file: f.name, err: err}
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > maxHeaderLength {
		return nil, broken(ruleHeaderTooLarge, strconv.FormatUint(n, 10)+" bytes", "at most "+byteCount(maxHeaderLength))
	}
	if room := f.size - headerLengthSize; int64(n) > room {
		return nil, broken(ruleHeaderTruncated, byteCount(int64(n)), "at most "+byteCount(room))
	}
	if f.backing.data != nil {
		return f.backing.data[headerLengthSize:][:n], nil
	}
	// ReadAll grows with what is really there, whatever size was claimed.
	text, err := io.ReadAll(io.NewSectionReader(f.backing.r, headerLengthSize, int64(n)))
	if err != nil {
		return nil, &fileError{file: f.name, err: err}
	}
	if uint64(len(text)) < n {
		return nil, broken(ruleTruncated, byteCount(headerLengthSize+int64(len(text))), byteCount(f.size))
	}
	return text, nil
}

// Name returns the name that the file was opened by.
func (f *File) Name() string { return f.name }

// Tensors returns all tensors in data order. The slice belongs to the File.
func (f *File) Tensors() []*Tensor { return f.tensors }

// Tensor returns the tensor of that name.
func (f *File) Tensor(name string) (*Tensor, bool) {
	t, ok := f.byName[name]
	return t, ok
}

// Metadata returns the strings of __metadata__, nil if the file has none. The
// map belongs to the File.
func (f *File) Metadata() map[string]string { return f.metadata }

// Mapping returns the bytes of the whole file if it is mapped or in memory, and nil
// otherwise or once the File is closed. They must not be written, nor read after Close: in
// a mapping either ends the program.
func (f *File) Mapping() []byte {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.backing.data
}

// Close releases the file and unmaps its bytes. It waits for reads under way; a second
// Close does nothing. Reads after it fail with fs.ErrClosed; slices from Bytes and Mapping
// must no longer be used.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	b := f.backing
	f.backing = backing{}
	return b.release(f.name)
}

func (b *backing) release(name string) error {
	if b.close == nil {
		return nil
	}
	if err := b.close(); err != nil {
		return &fileError{file: name, err: err}
	}
	return nil
}

// readAt fills p from offset off of the file. Its errors name no file.
func (f *File) readAt(p []byte, off int64) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	switch {
	case f.closed:
		return fs.ErrClosed
	case f.backing.data != nil:
		copy(p, f.backing.data[off:])
		return nil
	}
	n, err := f.backing.r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	return wholly(err)
}
