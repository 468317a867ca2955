package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 999: "999 B", 1000: "1.00 kB", 1234: "1.23 kB", 999_994: "999.99 kB", 999_996: "1.00 MB",
		7_730_000_000: "7.73 GB", 999_999_999: "1.00 GB", 2_458_386_432: "2.46 GB", 1_000_000_000_000: "1000.00 GB",
	} {
		require.Equal(t, want, FormatBytes(n))
	}
}
