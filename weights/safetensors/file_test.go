package safetensors

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

var sample = buildFile(bytePart("a", "abc"), part{"b", F32, []int{2, 1}, "12345678"}, part{"none", "I64", []int{0}, ""})

// onlyRead hides the ReadAt of the files of a file system.
type onlyRead struct{ fs.FS }

func (o onlyRead) Open(name string) (fs.File, error) {
	f, err := o.FS.Open(name)
	return struct{ fs.File }{f}, err
}

// onDisk writes files to a new folder.
func onDisk(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	return dir
}

func TestOpen(t *testing.T) {
	const name = "x.safetensors"
	mapped := runtime.GOOS != "windows"
	onMap := fstest.MapFS{name: {Data: sample}}
	tests := []struct {
		name    string
		fsys    fs.FS
		inPlace bool
	}{
		{"os file", os.DirFS(onDisk(t, map[string][]byte{name: sample})), mapped},
		{"io.ReaderAt", onMap, false},
		{"io.Reader", onlyRead{onMap}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f, err := Open(test.fsys, name)
			require.NoError(t, err)
			require.Equal(t, name, f.Name())
			require.Equal(t, int64(len(sample)), f.size)
			require.Equal(t, int64(len(sample)-11), f.dataStart)
			if test.inPlace {
				require.Equal(t, sample, f.mapping())
			} else {
				require.Nil(t, f.mapping())
			}
			b, ok := f.Tensor("b")
			require.True(t, ok)
			require.Equal(t, f.dataStart+3, b.Offset())
			require.Equal(t, int64(8), b.Size())
			require.Equal(t, []int{2, 1}, b.Shape)
			require.Equal(t, F32, b.Dtype)
			require.Equal(t, []byte("12345678"), requireBytes(t, b, test.inPlace))
			none, _ := f.Tensor("none")
			require.Empty(t, requireBytes(t, none, test.inPlace))
			_, ok = f.Tensor("c")
			require.False(t, ok)

			require.NoError(t, f.Close())
			require.NoError(t, f.Close(), "closing twice")
			_, err = b.ReadAt(make([]byte, 1), 0)
			require.ErrorIs(t, err, fs.ErrClosed)
			_, ok = b.Bytes()
			require.False(t, ok)
			require.Nil(t, f.mapping())
		})
	}
}

// requireBytes returns the bytes of a tensor, which are the same in place.
func requireBytes(t *testing.T, tensor *Tensor, inPlace bool) []byte {
	t.Helper()
	read, err := io.ReadAll(io.NewSectionReader(tensor, 0, tensor.Size()))
	require.NoError(t, err)
	data, ok := tensor.Bytes()
	require.Equal(t, inPlace, ok)
	if ok {
		require.Equal(t, read, data[:len(data):cap(data)])
		require.Equal(t, len(data), cap(data), "appending must not reach the next tensor")
	}
	return read
}

func TestTensorReadAtIsBounded(t *testing.T) {
	f, err := open(sample)
	require.NoError(t, err)
	a, _ := f.Tensor("a")
	tests := []struct {
		name string
		n    int
		off  int64
		want string
		err  error
	}{
		{"all", 3, 0, "abc", nil},
		{"inner", 1, 1, "b", nil},
		{"nothing", 0, 3, "", nil},
		{"beyond the end", 5, 1, "bc", io.EOF},
		{"at the end", 1, 3, "", io.EOF},
		{"far past the end", 1, 1 << 62, "", io.EOF},
		{"before the start", 1, -1, "", fs.ErrInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := make([]byte, test.n)
			n, err := a.ReadAt(p, test.off)
			require.ErrorIs(t, err, test.err)
			require.Equal(t, test.want, string(p[:n]))
		})
	}
}

func TestOpenFileFails(t *testing.T) {
	dir := onDisk(t, map[string][]byte{"empty.safetensors": nil, "x.safetensors": sample})
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder.safetensors"), 0o700))
	for _, fsys := range []fs.FS{os.DirFS(dir), fstest.MapFS{
		"empty.safetensors":         {},
		"folder.safetensors/inside": {},
	}} {
		_, err := Open(fsys, "absent.safetensors")
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = Open(fsys, "../x.safetensors")
		require.Error(t, err)
		_, err = Open(fsys, "folder.safetensors")
		require.ErrorIs(t, err, ruleNotRegular)
		require.Contains(t, err.Error(), "folder.safetensors")
		_, err = Open(fsys, "empty.safetensors")
		require.ErrorIs(t, err, ruleFileTooSmall)
	}
}

var errDisk = errors.New("disk fault")

// faultyReaderAt fails beyond a number of bytes.
type faultyReaderAt struct {
	r    io.ReaderAt
	good int64
}

func (f faultyReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.good {
		return 0, errDisk
	}
	return f.r.ReadAt(p, off)
}

func TestReadFaultsAreReported(t *testing.T) {
	size := int64(len(sample))
	for good := range size - 11 {
		_, err := newFile("x", backing{r: faultyReaderAt{bytes.NewReader(sample), good}}, size)
		require.ErrorIs(t, err, errDisk)
	}
	f, err := newFile("x", backing{r: faultyReaderAt{bytes.NewReader(sample), size - 1}}, size)
	require.NoError(t, err)
	b, _ := f.Tensor("b")
	_, err = b.ReadAt(make([]byte, 8), 0)
	require.ErrorIs(t, err, errDisk)
	require.Contains(t, err.Error(), `tensor "b"`)
}

// TestSizeIsClaimedTooLarge gives sizes that the reader does not have, which
// must neither be believed nor allocated.
func TestSizeIsClaimedTooLarge(t *testing.T) {
	claimed := []byte{0, 0, 0, 4, 0, 0, 0, 0} // a header of 64 MB, none of which is there
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := newFile("x", backing{r: bytes.NewReader(claimed)}, 1<<40)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, ruleTruncated)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))

	_, err = newFile("x", backing{r: bytes.NewReader(nil)}, 1<<40)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	for _, size := range []int64{-1, 0, 7} {
		_, err = newFile("x", backing{r: bytes.NewReader(sample)}, size)
		require.ErrorIs(t, err, ruleFileTooSmall)
	}

	// The data section ends early although the header asks for all of it.
	f, err := newFile("x", backing{r: bytes.NewReader(sample[:len(sample)-1])}, int64(len(sample)))
	require.NoError(t, err)
	b, _ := f.Tensor("b")
	_, err = b.ReadAt(make([]byte, 8), 0)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestReadsDuringClose(t *testing.T) {
	f, err := Open(os.DirFS(onDisk(t, map[string][]byte{"x": sample})), "x")
	require.NoError(t, err)
	b, _ := f.Tensor("b")
	const readers = 4
	var started sync.WaitGroup
	started.Add(readers)
	ended := make(chan error, readers)
	for range readers {
		go func() {
			p := make([]byte, 8)
			_, err := b.ReadAt(p, 0)
			started.Done()
			for err == nil && string(p) == "12345678" {
				_, err = b.ReadAt(p, 0)
			}
			ended <- err
		}()
	}
	started.Wait()
	require.NoError(t, f.Close())
	for range readers {
		require.ErrorIs(t, <-ended, fs.ErrClosed)
	}
}

func TestPopulate(t *testing.T) {
	// The last page is not whole.
	size := 8*populatePart + 12345
	dir := t.TempDir()
	writeSparse(t, filepath.Join(dir, "x"), size)
	f, err := Open(os.DirFS(dir), "x")
	require.NoError(t, err)
	defer f.Close()
	if f.mapping() == nil {
		t.Skip("files are not mapped on this system")
	}
	for _, c := range [][2]int64{{0, f.size}, {0, 1}, {5, 5000}, {f.size - 1, f.size}, {f.size, f.size + 1}, {-1, f.size + 1}, {7, 7}, {9, 2}} {
		require.NoError(t, f.ReadAhead(c[0], c[1], true), "%v", c)
		require.NoError(t, f.ReadAhead(c[0], c[1], false), "%v", c)
	}
	touchPages(f.mapping())
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.ReadAhead(0, f.size, true), fs.ErrClosed)
}

func TestPopulateWithoutMapping(t *testing.T) {
	for _, fsys := range []fs.FS{fstest.MapFS{"x": {Data: sample}}, onlyRead{fstest.MapFS{"x": {Data: sample}}}} {
		f, err := Open(fsys, "x")
		require.NoError(t, err)
		require.NoError(t, f.ReadAhead(0, f.size, true), "nothing is mapped")
		require.NoError(t, f.Close())
	}
}

func TestPopulateShare(t *testing.T) {
	const page, least = 4096, populatePart
	for _, c := range []struct{ n, threads, share int }{
		{1, 8, least}, {least, 2, least}, {2 * least, 2, least}, {64 << 20, 2, 32 << 20},
		{64 << 20, 1, 64 << 20}, {64<<20 + 1, 2, 32<<20 + page}, {64 << 20, 3, (64<<20/3/page + 1) * page},
	} {
		share := populateShare(c.n, c.threads, page)
		require.Equal(t, c.share, share, "%d bytes for %d threads", c.n, c.threads)
		require.GreaterOrEqual(t, share*c.threads, c.n)
	}
}

// memoryFS is a file system whose files lie in memory, and which counts those that
// are open. They claim to have extra bytes more than they have.
type memoryFS struct {
	fstest.MapFS
	open  *int
	extra int
}

type memoryFile struct {
	fs.File
	data  []byte
	of    *memoryFS
	extra int
}

func (f *memoryFile) Bytes() []byte { return f.data[:len(f.data)-f.extra] }

func (f *memoryFile) Close() error {
	*f.of.open--
	return f.File.Close()
}

func (m *memoryFS) Open(name string) (fs.File, error) {
	f, err := m.MapFS.Open(name)
	if err != nil {
		return nil, err
	}
	*m.open++
	return &memoryFile{f, m.MapFS[name].Data, m, m.extra}, nil
}

func TestFileInMemory(t *testing.T) {
	fsys := &memoryFS{MapFS: fstest.MapFS{"x": {Data: sample}, "broken": {Data: sample[:len(sample)-1]}}, open: new(int)}
	f, err := Open(fsys, "x")
	require.NoError(t, err)
	require.Equal(t, 1, *fsys.open, "it stays open while it is used")
	require.Same(t, &sample[0], &f.mapping()[0], "in place")
	require.NoError(t, f.Close())
	require.Zero(t, *fsys.open)

	_, err = Open(fsys, "broken")
	require.ErrorIs(t, err, ruleTruncated)
	fsys.extra = 1
	_, err = Open(fsys, "x")
	require.ErrorIs(t, err, ruleTruncated, "less than the size that it tells")
	require.Zero(t, *fsys.open)
}

// writeSparse writes a safetensors file of one tensor of size zeros.
func writeSparse(t *testing.T, name string, size int) {
	t.Helper()
	header := rawFile("{"+tensorJSON("t", "U8", []int{size}, 0, size)+"}", "")
	require.NoError(t, os.WriteFile(name, header, 0o600))
	require.NoError(t, os.Truncate(name, int64(len(header)+size)))
}
