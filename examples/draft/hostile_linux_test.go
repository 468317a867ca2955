package main

import (
	"testing"

	"github.com/drafthead/drafthead/examples/internal/hostile"
)

// TestHostileText: nothing that files hold or are called acts on the terminal.
func TestHostileText(t *testing.T) {
	for name, dir := range hostile.Folders(t) {
		if name == "" || name == "method" || name == "pattern" { // which load
			continue
		}
		t.Run(name, func(t *testing.T) {
			for _, args := range [][]string{{"-checkpoint", dir}, {"-json", "-checkpoint", dir}, {dir}} {
				_, stdout, stderr := runDraft(args...)
				hostile.Require(t, stdout)
				hostile.Require(t, stderr)
			}
		})
	}
}
