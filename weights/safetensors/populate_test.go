package safetensors

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// TestAdvicePieces: the pieces of an advice lie end to end, from the start of
// a page to the very end.
func TestAdvicePieces(t *testing.T) {
	const page = 4096
	for _, test := range []struct{ begin, end int64 }{
		{0, 1}, {0, advicePiece}, {0, advicePiece + 1}, {page + 5, page + 6}, {page - 1, page + 1},
		{7 * page, 7*page + 3*advicePiece - 1}, {5, 5}, {page, page}, {1<<40 + 3, 1<<40 + 1<<20},
	} {
		at := test.begin / page * page
		for piece := range advicePieces(test.begin, test.end, page) {
			require.Equal(t, at, piece[0])
			require.True(t, piece[0] < piece[1] && piece[1]-piece[0] <= advicePiece)
			at = piece[1]
		}
		if test.begin < test.end {
			require.Equal(t, test.end, at)
		}
		for range advicePieces(test.begin, test.end, page) {
			break
		}
	}
}

// TestReadAheadOfAnyFile: advice is given where it can be, and does no harm elsewhere.
func TestReadAheadOfAnyFile(t *testing.T) {
	data := buildFile(bytePart("t", strings.Repeat("x", 3*advicePiece)))
	inMap := fstest.MapFS{"x": {Data: data}}
	for _, fsys := range []fs.FS{os.DirFS(onDisk(t, map[string][]byte{"x": data})), inMap, onlyRead{inMap}} {
		f, err := Open(fsys, "x")
		require.NoError(t, err)
		for _, c := range [][2]int64{{0, f.size}, {5, 5}, {advicePiece + 1, f.size + 1}} {
			require.NoError(t, f.ReadAhead(c[0], c[1], false))
		}
		got := make([]byte, 8)
		require.NoError(t, f.readAt(got, f.size-8))
		require.Equal(t, data[len(data)-8:], got)
		require.NoError(t, f.Close())
		require.NoError(t, f.ReadAhead(0, int64(len(data)), false))
	}
}
