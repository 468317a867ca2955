package weights

import (
	"cmp"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// recorder notes what is asked for in place of asking.
type recorder struct {
	t     *testing.T
	spans []span
	bytes int64 // of whole pages
}

type span struct {
	file       *safetensors.File
	begin, end int64
}

// ask refuses what no disk should be asked for: nothing, what a file does not have,
// what was asked for before, and what lies before it. Goroutines that load call it.
func (r *recorder) ask(f *safetensors.File, begin, end int64) {
	page := int64(os.Getpagesize())
	assert.True(r.t, 0 <= begin && begin < end && end < size(f)+page, "%s has %d bytes: [%d, %d)", f.Name(), size(f), begin, end)
	assert.Zero(r.t, begin%page)
	if n := len(r.spans); n > 0 {
		last := r.spans[n-1]
		assert.LessOrEqual(r.t, last.file.Name(), f.Name())
		assert.True(r.t, last.file != f || last.end <= begin, "[%d, %d) after %d", begin, end, last.end)
	}
	r.spans = append(r.spans, span{f, begin, end})
	r.bytes += (end - begin + page - 1) / page * page
}

// size returns the bytes of a file, which its tensors tile.
func size(f *safetensors.File) int64 {
	last := f.Tensors()[len(f.Tensors())-1]
	return last.Offset() + last.Size()
}

// holds reports whether all of [begin, end) was asked for.
func (r *recorder) holds(f *safetensors.File, begin, end int64) bool {
	for _, s := range r.spans {
		if s.file == f && s.begin <= begin && begin < s.end {
			begin = s.end
		}
	}
	return begin >= end
}

// pages returns spans as runs of whole pages, in order, that touch nowhere.
func pages(spans []span) (runs []span) {
	page := int64(os.Getpagesize())
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.file.Name(), b.file.Name()), cmp.Compare(a.begin, b.begin))
	})
	for _, s := range spans {
		s.begin, s.end = s.begin/page, (s.end+page-1)/page
		if n := len(runs); n > 0 && runs[n-1].file == s.file && s.begin <= runs[n-1].end {
			runs[n-1].end = max(runs[n-1].end, s.end)
			continue
		}
		runs = append(runs, s)
	}
	return runs
}

// pageCount returns the pages of runs.
func pageCount(runs []span) (n int64) {
	for _, s := range runs {
		n += s.end - s.begin
	}
	return n
}

// requirePages compares the pages of spans with those that were asked for.
func requirePages(t *testing.T, want []span, got *recorder) {
	t.Helper()
	wanted, asked := pages(want), pages(got.spans)
	require.Equal(t, printed(wanted), printed(asked))
	require.Equal(t, pageCount(asked)*int64(os.Getpagesize()), got.bytes, "no page twice")
}

// printed names runs by their files.
func printed(runs []span) (lines []string) {
	for _, s := range runs {
		lines = append(lines, fmt.Sprintf("%s: pages %d to %d", s.file.Name(), s.begin, s.end))
	}
	return lines
}

// hollow is a file of which only the header has bytes.
type hollow struct {
	fs.File
	fs.FileInfo
	header []byte
	size   int64
}

func (h hollow) Open(string) (fs.File, error) { return h, nil }
func (h hollow) Stat() (fs.FileInfo, error)   { return h, nil }
func (h hollow) Mode() fs.FileMode            { return 0 }
func (h hollow) Size() int64                  { return h.size }
func (h hollow) Close() error                 { return nil }

func (h hollow) ReadAt(p []byte, off int64) (int, error) {
	if off < int64(len(h.header)) {
		copy(p, h.header[off:])
	}
	return len(p), nil
}

// hollowFile returns a file of tensors of these sizes, with more bytes of header.
func hollowFile(name string, more int, sizes ...int64) *safetensors.File {
	var tensors []*safetensors.Tensor
	total := int64(0)
	for i, size := range sizes {
		tensors = append(tensors, safetensors.NewTensor(fmt.Sprint("t", i), safetensors.U8, []int{int(size)}, nil))
		total += size
	}
	header, err := safetensors.Header(map[string]string{"more": strings.Repeat("x", more)}, tensors)
	if err != nil {
		panic(err) // the test's own mistake
	}
	f, err := safetensors.Open(hollow{header: header, size: int64(len(header)) + total}, name)
	if err != nil {
		panic(err)
	}
	return f
}

// randomAreas lays tensors of up to 100 MB in files that have no bytes, and returns a
// share of most of them.
func randomAreas(r *rand.Rand) (areas []area) {
	for i := range 1 + r.IntN(3) {
		more := int(r.Int64N(9000))
		var sizes []int64
		loaded := make(map[int]area) // by tensor
		for k := range r.IntN(12) {
			width := 1 + r.Int64N(20_000)
			a := area{width: width, stride: width, rows: 1 + r.Int64N(1+r.Int64N(5000))}
			sizes = append(sizes, a.bytes())
			switch r.IntN(5) {
			case 0: // not loaded
				continue
			case 1: // a share of the columns
				a.start = r.Int64N(a.width)
				a.width = 1 + r.Int64N(a.width-a.start)
			case 2: // a share of the rows
				first := r.Int64N(a.rows)
				a.start, a.rows = first*a.stride, 1+r.Int64N(a.rows-first)
			}
			loaded[k] = a
		}
		for k, tensor := range hollowFile(fmt.Sprint("file ", i), more, sizes...).Tensors() {
			if a, ok := loaded[k]; ok {
				a.tensor = tensor
				areas = append(areas, a)
			}
		}
	}
	return areas
}

// narrowAreas returns a share of few columns of a tensor of 120 MB, and the tensor after
// it: a part that is read lies over more than a window.
func narrowAreas() []area {
	const width, rows = 20_000, 6000
	tensors := hollowFile("narrow", 0, width*rows, width).Tensors()
	return []area{
		{tensor: tensors[0], start: 5000, width: 100, stride: width, rows: rows},
		{tensor: tensors[1], width: width, stride: width, rows: 1},
	}
}
