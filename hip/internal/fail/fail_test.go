package fail

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestThePackageIsNamedOnce, at the beginning, whatever wraps what.
func TestThePackageIsNamedOnce(t *testing.T) {
	for want, err := range map[string]error{
		"hip: device is closed": Closed,
		"hip: kernel scale: read of 8 bytes at 0x40: access outside of device memory": Kernel("scale", Outside("read", 64, 8)),
		"hip: kernel scale: launch 3: y[0] is 1: differs from the reference":          Kernel("scale", With(With(Mismatch, "y[%d] is 1", 0), "launch %d", 3)),
		"hip: -1 bytes asked for: out of device memory":                               OutOf(-1),
		"hip: kernel scale: EOF": Kernel("scale", io.EOF),
		"hip: kernel scale: row 3 is not there: access outside of device memory": Kernel("scale", fmt.Errorf("row 3 is not there: %w", Access)),
		"mtp: draft: hip: kernel scale: the kernel has no GPU side":              fmt.Errorf("mtp: draft: %w", Kernel("scale", NoSource)),
	} {
		require.EqualError(t, err, want)
	}
	require.Equal(t, "device is closed", Bare(Closed))
	require.Equal(t, "EOF", Bare(io.EOF))
}

func TestErrorsAreFound(t *testing.T) {
	require.ErrorIs(t, Kernel("scale", Outside("read", 1, 2)), Access)
	require.ErrorIs(t, OutOf(1), OutOfMemory)
	require.ErrorIs(t, With(io.EOF, "x"), io.EOF)
	require.False(t, errors.Is(OutOf(1), Access))
	require.False(t, errors.Is(New("device is closed"), Closed), "errors are themselves, not their texts")
}
