package target

import (
	"os"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/m3tiny"
)

// TestFind: a draft head without its target is told from a whole checkpoint, with an index
// of its files or without. Of a folder that cannot be read it says nothing.
func TestFind(t *testing.T) {
	require.NoError(t, Find(m3tiny.Checkpoint()))
	require.NoError(t, Find(os.DirFS(t.TempDir())))
	const golden = "../../../mtp/testdata/golden/"
	for _, head := range []string{"tiny-3modules", "tiny-f32", "tiny-mxfp8"} {
		require.ErrorIs(t, Find(os.DirFS(golden+head)), errNone, head)
	}
	index := fstest.MapFS{"model.safetensors.index.json": {Data: []byte(`{"weight_map": {"lm_head.weight": "a.safetensors"}}`)}}
	require.ErrorIs(t, Find(index), errNone)
}
