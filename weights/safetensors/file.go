package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"sync"
)

// File is an open safetensors file. Its methods may be called from several
// goroutines at once.
type File struct {
	name      string
	size      int64
	dataStart int64     // where the data section begins; it need not be aligned
	tensors   []*Tensor // in data order
	sorted    []*Tensor // by name
	metadata  map[string]string
	faults    faults

	mu      sync.RWMutex // held for reading while the contents are used
	closed  bool
	backing backing
}

// faults are what is wrong with tensors that are not needed.
type faults struct {
	n     int
	first string
	left  []string // the tensors, sorted
}

// backing is where the bytes of a file are.
type backing struct {
	pieces []piece      // in memory, in the order of the file
	r      io.ReaderAt  // for all others; nil: there are none
	close  func() error // of r; may be nil
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
// are used in place and the kernel keeps one copy for all processes; one of up to 16 KiB is
// read. A mapped file must not be truncated while it is open. If it is, [Tensor.ReadAt],
// [File.ReadAhead] and the kernels of a CPU device return an error; any other read of a byte
// that is gone, through [Tensor.Bytes] for example, ends the program. To have a file read in
// place of mapped, hide the *os.File in a type of your own with its methods and ReadAt.
//
// A file with a method Bytes() []byte, which returns all of its contents, has them in memory
// already: weights that a program keeps, makes or receives. It stays open and is used in
// place too; its bytes must neither change nor move until it is closed. Another file that is
// an io.ReaderAt stays open and is read as needed; any other is read into memory.
func Open(fsys fs.FS, name string) (*File, error) { return openFile(fsys, name, nil, maxPieces) }

// openFile opens a file of which some tensors are needed, nil for all: it maps up to pieces
// stretches that hold them. What is wrong with the others is not an error.
func openFile(fsys fs.FS, name string, needed func(tensor string) bool, pieces int) (*File, error) {
	var f *File
	b, size, err := openBacking(fsys, name)
	if err == nil {
		f, err = parseFile(name, b, size, needed)
	}
	if err == nil {
		b, err = f.hold(needed, pieces)
	}
	if err != nil {
		if released := b.release(name); released != nil {
			err = errors.Join(err, released)
		}
		return nil, err
	}
	return f, nil
}

// openBacking opens a file. All of it is in memory, or nothing yet.
func openBacking(fsys fs.FS, name string) (b backing, size int64, err error) {
	f, size, err := openRegular(fsys, name)
	if err != nil {
		return backing{}, 0, err
	}
	if m, ok := f.(inMemory); ok {
		b = backing{pieces: []piece{{data: m.Bytes()}}, close: f.Close}
		if got := int64(len(b.pieces[0].data)); got != size {
			return b, 0, &FormatError{File: name, Rule: ruleTruncated, Got: byteCount(got), Want: byteCount(size)}
		}
		return b, size, nil
	}
	if r, ok := f.(io.ReaderAt); ok {
		return backing{r: r, close: f.Close}, size, nil
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return backing{}, 0, &fileError{file: name, err: err}
	}
	return backing{pieces: []piece{{data: data}}}, int64(len(data)), nil
}

// newFile reads the header of a file of size bytes. Its errors leave b to the caller.
func newFile(name string, b backing, size int64) (*File, error) { return parseFile(name, b, size, nil) }

// parseFile is newFile where only some tensors are needed.
func parseFile(name string, b backing, size int64, needed func(tensor string) bool) (*File, error) {
	f := &File{name: name, size: size, backing: b}
	text, err := f.readHeader()
	if err != nil {
		return nil, f.orKind(err)
	}
	f.dataStart = headerLengthSize + int64(len(text))
	bad := problems{file: name}
	if needed != nil {
		bad.spare = func(tensor string) bool { return !needed(tensor) }
	}
	h, err := parseHeader(text, size-f.dataStart, &bad)
	if err != nil {
		return nil, f.orKind(err)
	}
	slices.Sort(h.left)
	f.metadata, f.faults = h.metadata, faults{bad.noted, bad.first, h.left}
	f.tensors = make([]*Tensor, len(h.tensors))
	for i := range h.tensors {
		t := &h.tensors[i]
		t.file, t.offset = f, f.dataStart+t.offset
		f.tensors[i] = t
	}
	f.sorted = sortedByName(f.tensors)
	return f, nil
}

// faulty reports whether a tensor is left out.
func (f *File) faulty(tensor string) bool {
	_, found := slices.BinarySearch(f.faults.left, tensor)
	return found
}

// sortedByName returns the tensors in the order of their names. Those of one name keep
// theirs.
func sortedByName(tensors []*Tensor) []*Tensor {
	sorted := slices.Clone(tensors)
	slices.SortStableFunc(sorted, func(a, b *Tensor) int { return cmp.Compare(a.Name, b.Name) })
	return sorted
}

// named returns the first tensor of a name among sorted ones.
func named(sorted []*Tensor, name string) (*Tensor, bool) {
	i, found := slices.BinarySearchFunc(sorted, name, func(t *Tensor, name string) int { return cmp.Compare(t.Name, name) })
	if !found {
		return nil, false
	}
	return sorted[i], true
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
	text, err := readUpTo(io.NewSectionReader(f.backing.reader(), headerLengthSize, int64(n)), int64(n))
	if err != nil {
		return nil, &fileError{file: f.name, err: err}
	}
	if uint64(len(text)) < n {
		return nil, broken(ruleTruncated, byteCount(headerLengthSize+int64(len(text))), byteCount(f.size))
	}
	return text, nil
}

// readUpTo reads up to n bytes. It takes memory as they come, whatever n claims, and at most
// half as much again.
func readUpTo(r io.Reader, n int64) ([]byte, error) {
	var text []byte
	for int64(len(text)) < n {
		if len(text) == cap(text) {
			text = slices.Grow(text, int(min(n-int64(len(text)), max(64<<10, 2*int64(len(text))))))
		}
		got, err := r.Read(text[len(text):min(int64(cap(text)), n)])
		text = text[:len(text)+got]
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return text, nil
}

// Name returns the name that the file was opened by.
func (f *File) Name() string { return f.name }

// Tensors returns all tensors in data order. The slice belongs to the File.
func (f *File) Tensors() []*Tensor { return f.tensors }

// Tensor returns the tensor of that name.
func (f *File) Tensor(name string) (*Tensor, bool) { return named(f.sorted, name) }

// Metadata returns the strings of __metadata__, nil if the file has none. The
// map belongs to the File.
func (f *File) Metadata() map[string]string { return f.metadata }

// mapping returns the bytes of the whole file if they are mapped or in memory, and nil
// otherwise or once the File is closed.
func (f *File) mapping() []byte {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if len(f.backing.pieces) != 1 || int64(len(f.backing.pieces[0].data)) != f.size {
		return nil
	}
	return f.backing.pieces[0].data
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
	var errs []error
	for i := range b.pieces {
		errs = append(errs, b.pieces[i].release())
	}
	if b.close != nil {
		errs = append(errs, b.close())
	}
	if err := errors.Join(errs...); err != nil {
		return &fileError{file: name, err: err}
	}
	return nil
}

// reader reads the file before its tensors are known.
func (b *backing) reader() io.ReaderAt {
	if b.r == nil {
		return bytes.NewReader(b.pieces[0].data)
	}
	return b.r
}

// readAt fills p from offset off of the file. Its errors name no file.
func (f *File) readAt(p []byte, off int64) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return fs.ErrClosed
	}
	if data := f.backing.in(off, int64(len(p))); data != nil {
		return copyFaulty(p, data)
	}
	n, err := f.backing.r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	return wholly(err)
}
