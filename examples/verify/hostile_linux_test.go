package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/hostile"
)

// TestHostileText: nothing that files hold or are called acts on the terminal.
func TestHostileText(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join(caseFolder(t, "tiny-f32"), "golden.safetensors"))
	require.NoError(t, err)
	for name, dir := range hostile.Folders(t) {
		t.Run(name, func(t *testing.T) {
			_ = os.WriteFile(filepath.Join(dir, "golden.safetensors"), golden, 0o600)
			for _, args := range [][]string{{"-v", dir}, {"-json", dir}} {
				_, stdout, stderr := runVerify(args...)
				hostile.Require(t, stdout)
				hostile.Require(t, stderr)
			}
		})
	}
}
