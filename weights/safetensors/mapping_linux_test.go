package safetensors

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// mappings counts the mappings of files in dir.
func mappings(t *testing.T, dir string) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return strings.Count(string(maps), dir+"/")
}

// descriptors counts the open descriptors of files in dir.
func descriptors(t *testing.T, dir string) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	n := 0
	for _, fd := range open {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, dir+"/") {
			n++
		}
	}
	return n
}

func TestFileIsUnmapped(t *testing.T) {
	sample := buildFile(bytePart("a", strings.Repeat("x", smallSize)))
	dir := onDisk(t, map[string][]byte{"x": sample, "broken": sample[:len(sample)-1]})
	f, err := Open(os.DirFS(dir), "x")
	require.NoError(t, err)
	require.Equal(t, 1, mappings(t, dir))
	require.Zero(t, descriptors(t, dir), "the descriptor is closed right after mapping")
	require.NoError(t, f.Close())
	require.Zero(t, mappings(t, dir))

	_, err = Open(os.DirFS(dir), "broken")
	require.ErrorIs(t, err, ruleTruncated)
	require.Zero(t, mappings(t, dir))
	require.Zero(t, descriptors(t, dir))
}

func TestCheckpointIsUnmapped(t *testing.T) {
	dir := onDisk(t, map[string][]byte{
		"a.safetensors": buildFile(bytePart("a", strings.Repeat("1", smallSize))),
		"b.safetensors": buildFile(bytePart("b", strings.Repeat("2", smallSize))),
	})
	c, err := OpenFolder(os.DirFS(dir), nil)
	require.NoError(t, err)
	require.Equal(t, 2, mappings(t, dir))
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	require.Zero(t, mappings(t, dir))

	// One broken file, one with a tensor of another: what was mapped before is released.
	for name, data := range map[string][]byte{"c.safetensors": []byte("broken"), "d.safetensors": buildFile(bytePart("a", "1"))} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		_, err = OpenFolder(os.DirFS(dir), nil)
		require.Error(t, err)
		require.Zero(t, mappings(t, dir))
		require.Zero(t, descriptors(t, dir))
		require.NoError(t, os.Remove(filepath.Join(dir, name)))
	}
}

// TestSmallFilesAreRead: a file that costs less to read than to map is read, and closed.
func TestSmallFilesAreRead(t *testing.T) {
	dir := onDisk(t, map[string][]byte{"x.safetensors": sample})
	f, err := Open(os.DirFS(dir), "x.safetensors")
	require.NoError(t, err)
	require.Zero(t, mappings(t, dir))
	require.Zero(t, descriptors(t, dir))
	require.Equal(t, sample, f.mapping())
	require.NoError(t, f.Close())
}

// mappedBytes returns how much of the files in dir is mapped, a number for each mapping.
func mappedBytes(t *testing.T, dir string) (sizes []int64) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, dir+"/") {
			var begin, end int64
			_, err := fmt.Sscanf(line, "%x-%x", &begin, &end)
			require.NoError(t, err)
			sizes = append(sizes, end-begin)
		}
	}
	return sizes
}

// TestOnlyNeededBytesAreMapped: of a large shard only the pages with needed tensors are
// mapped, near ones together; the others are read.
func TestOnlyNeededBytesAreMapped(t *testing.T) {
	const gap, n = 1 << 30, 40_000
	dir := t.TempDir()
	name := filepath.Join(dir, "x.safetensors")
	entries, at := []string{}, 0
	add := func(tensor string, bytes int) int {
		entries = append(entries, tensorJSON(tensor, "U8", []int{bytes}, at, at+bytes))
		at += bytes
		return at - bytes
	}
	add("before", gap)
	a := add("mtp.a", n)
	add("near", 100)
	b := add("mtp.b", n)
	add("between", gap)
	c := add("mtp.c", n)
	add("after", gap)
	header := rawFile("{"+strings.Join(entries, ",")+"}", "")
	require.NoError(t, os.WriteFile(name, header, 0o600))
	require.NoError(t, os.Truncate(name, int64(len(header)+at)))
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	require.NoError(t, err)
	for i, at := range []int{a, b, c} {
		_, err := file.WriteAt([]byte{byte('a' + i)}, int64(len(header)+at))
		require.NoError(t, err)
	}
	require.NoError(t, file.Close())

	mtp := func(name string) bool { return strings.HasPrefix(name, "mtp.") }
	folder, err := OpenFolder(os.DirFS(dir), mtp)
	require.NoError(t, err)
	sizes := mappedBytes(t, dir)
	require.Len(t, sizes, 2)
	require.Less(t, sizes[0]+sizes[1], int64(3*n+4*2*os.Getpagesize()))
	for i, name := range []string{"mtp.a", "mtp.b", "mtp.c"} {
		tensor, _ := folder.Tensor(name)
		data, ok := tensor.Bytes()
		require.True(t, ok)
		require.Len(t, data, n)
		require.Equal(t, byte('a'+i), data[0])
		require.NoError(t, tensor.File().ReadAhead(tensor.Offset(), tensor.Offset()+n, true))
		one := make([]byte, 1)
		_, err := tensor.ReadAt(one, 0)
		require.NoError(t, err)
		require.Equal(t, data[0], one[0])
	}
	other, _ := folder.Tensor("between")
	_, ok := other.Bytes()
	require.False(t, ok)
	_, err = other.ReadAt(make([]byte, 10), gap-10)
	require.NoError(t, err)
	require.NoError(t, other.File().ReadAhead(0, int64(at), true), "all that is mapped")
	require.NoError(t, folder.Close())
	require.Empty(t, mappedBytes(t, dir))
	require.Zero(t, descriptors(t, dir))
}

// TestStretches: no more stretches than may be, and the widest gaps between them.
func TestStretches(t *testing.T) {
	page := int64(os.Getpagesize())
	f := &File{size: 1 << 40}
	add := func(at, size int64) { f.tensors = append(f.tensors, &Tensor{Name: "t", offset: at, size: size}) }
	far := 16 * int64(mergeGap) / page * page
	add(5, 10)
	add(page+1, 1)
	add(page+2+mergeGap, 1) // near
	add(10*far, 1)          // far
	add(30*far, page)       // farther
	add(31*far, 0)          // nothing
	add(40*far+page-1, 2)   // across two pages
	add(f.size-1, 1)        // at the end
	all := func(string) bool { return true }
	want := [][2]int64{{0, (page+2+mergeGap)/page*page + page}, {10 * far, 10*far + page}, {30 * far, 30*far + page}, {40 * far, 40*far + 2*page}, {f.size - page, f.size}}
	require.Equal(t, want, f.stretches(all, 5))
	require.Equal(t, want, f.stretches(all, 64))
	require.Equal(t, [][2]int64{{0, want[1][1]}, {want[2][0], want[3][1]}, want[4]}, f.stretches(all, 3))
	require.Equal(t, [][2]int64{{0, want[3][1]}, want[4]}, f.stretches(all, 2))
	require.Equal(t, [][2]int64{{0, f.size}}, f.stretches(all, 1))
	require.Equal(t, [][2]int64{{0, f.size}}, f.stretches(nil, 1))
	require.Empty(t, f.stretches(func(string) bool { return false }, 5))
}

// TestNoAddressSpace: a stretch that no address space is left for is read, and the others
// are mapped.
func TestNoAddressSpace(t *testing.T) {
	const small, large = 1 << 20, 1 << 32
	dir := t.TempDir()
	header := rawFile("{"+tensorJSON("small", "U8", []int{small}, 0, small)+","+tensorJSON("none", "U8", []int{small}, small, 2*small)+","+
		tensorJSON("large", "U8", []int{large}, 2*small, 2*small+large)+"}", "")
	name := filepath.Join(dir, "x.safetensors")
	require.NoError(t, os.WriteFile(name, header, 0o600))
	require.NoError(t, os.Truncate(name, int64(len(header)+2*small+large)))

	status, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	var pages uint64
	_, err = fmt.Sscan(string(status), &pages)
	require.NoError(t, err)
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_AS, &before))
	limit := unix.Rlimit{Cur: pages*uint64(os.Getpagesize()) + 1<<30, Max: before.Max}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_AS, &limit))
	folder, err := OpenFolder(os.DirFS(dir), func(name string) bool { return name != "none" })
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_AS, &before))
	require.NoError(t, err)
	for name, want := range map[string]bool{"small": true, "large": false} {
		tensor, _ := folder.Tensor(name)
		_, mapped := tensor.Bytes()
		require.Equal(t, want, mapped)
		_, err := tensor.ReadAt(make([]byte, 100), small-100)
		require.NoError(t, err)
	}
	require.NoError(t, folder.Close())
	require.Zero(t, descriptors(t, dir))
}

// TestFileThatShrinks: what reads bytes of a mapped file that are gone is an error.
func TestFileThatShrinks(t *testing.T) {
	const n = 1 << 20
	dir := onDisk(t, map[string][]byte{"x": buildFile(bytePart("a", strings.Repeat("a", n)), bytePart("b", strings.Repeat("b", n)))})
	f, err := Open(os.DirFS(dir), "x")
	require.NoError(t, err)
	b, _ := f.Tensor("b")
	require.NoError(t, os.Truncate(filepath.Join(dir, "x"), n))
	for range 2 {
		_, err = b.ReadAt(make([]byte, n), 0)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.ErrorContains(t, err, `x: tensor "b": the file was cut short while it was open`)
	}
	err = f.ReadAhead(b.Offset(), b.Offset()+n, true)
	require.ErrorContains(t, err, "safetensors: x: the file was cut short while it was open")
	require.ErrorIs(t, caught(func() { touchPages(f.mapping()) }), errGone)
	require.Panics(t, func() { _ = caught(func() { panic("another") }) })
	a, _ := f.Tensor("a")
	_, err = a.ReadAt(make([]byte, n/2), 0)
	require.NoError(t, err, "what is there")
	require.NoError(t, f.Close())
}
