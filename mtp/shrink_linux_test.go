package mtp_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// TestFileShrinksUnderAHead: a call that reads weights of a mapped file that was cut short
// returns an error, in a process that goes on. It runs in a process of its own.
func TestFileShrinksUnderAHead(t *testing.T) {
	const variable = "DRAFTHEAD_SHRINKS"
	if os.Getenv(variable) == "" {
		command := exec.Command(os.Args[0], "-test.run=^TestFileShrinksUnderAHead$")
		command.Env = append(os.Environ(), variable+"=1")
		output, err := command.CombinedOutput()
		require.NoError(t, err, "%s", output)
		return
	}
	for name, device := range map[string]hip.Device{"host": hip.NewHost(4), "reference": hip.NewReference(), "checked": hip.Check(hip.NewHost(2))} {
		for _, format := range []string{"F32", "BF16", "MXFP8"} {
			dir := synthetic{format: format}.folder(t)
			path := filepath.Join(dir, "model.safetensors")
			head, err := mtp.Load(t.Context(), dir, mtp.Options{Device: device})
			require.NoError(t, err)
			require.Positive(t, mappedBelow(t, dir))
			cache, x := newCache(t, head, 8), randomPassage(31, 9)
			s := cache.NewSequence()
			draft(t, head, x.batch(s, 0, 4), 2)
			length, free := s.Len(), cache.FreePages()

			info, err := os.Stat(path)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(path, 1))
			for range 2 {
				_, err = draftOf(t.Context(), head, x.batch(s, 4, 8), 2)
				require.ErrorIs(t, err, hip.ErrAccess, "%s, %s", name, format)
				require.ErrorContains(t, err, "is gone, as that of a mapped file that is cut short")
				_, err = head.Forward(t.Context(), x.batch(s, 4, 8), 0)
				require.ErrorIs(t, err, hip.ErrAccess)
				require.Equal(t, length, s.Len())
				require.Equal(t, free, cache.FreePages())
			}
			require.NoError(t, os.Truncate(path, info.Size()))
			_, err = draftOf(t.Context(), head, x.batch(s, 4, 8), 2)
			if err != nil { // zeros may be no numbers
				require.ErrorIs(t, err, mtp.ErrNaN)
			}
			require.NoError(t, head.Close())
		}
		require.NoError(t, device.Close())
	}
}
