package mtp_test

import (
	"testing"

	"github.com/drafthead/drafthead/hip/hiptest"
	_ "github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// TestKernelsOffline compiles the kernels of all packages that package mtp imports.
func TestKernelsOffline(t *testing.T) { hiptest.CompileOffline(t, weights.Segment{}) }
