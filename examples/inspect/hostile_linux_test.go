package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/hostile"
)

// TestHostileText: nothing that files hold or are called acts on the terminal.
func TestHostileText(t *testing.T) {
	for name, dir := range hostile.Folders(t) {
		t.Run(name, func(t *testing.T) {
			for _, args := range [][]string{{dir}, {"-json", dir}, {"-weights", dir}, {dir, dir}} {
				code, stdout, stderr := inspectText(t, args...)
				hostile.Require(t, stdout)
				hostile.Require(t, stderr)
				if len(args) == 1 && args[0] == dir && (name == "" || name == "method" || name == "pattern") {
					require.Equal(t, cli.OK, code, stdout)
					require.Contains(t, stdout, "note: ")
				}
				if len(args) == 1 && args[0] == dir && name != "" && name != "method" && name != "pattern" {
					require.Equal(t, cli.Failed, code, stdout)
				}
			}
		})
	}
}
