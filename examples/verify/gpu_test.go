package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// checkedCase also has every kernel run beside its reference.
const checkedCase = "tiny-init1-local2"

// TestTinyCasesOnGPUs runs golden cases, all stages and chains, on emulated GPUs of
// both platforms and wave sizes.
func TestTinyCasesOnGPUs(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	for _, name := range []string{"tiny-mxfp8", checkedCase} {
		dir := caseFolder(t, name)
		t.Run(name, func(t *testing.T) {
			hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
				if name == checkedCase {
					d = hip.Check(d)
				}
				r := verifyCase(context.Background(), dir, d)
				require.Empty(t, r.Error)
				for _, s := range r.Stages {
					require.True(t, s.OK, "%s: off by %.3g, bound %.3g, largest %.3g", s.Name, s.MaxAbs, s.Bound, s.MaxRef)
				}
				require.True(t, r.OK)
			})
		})
	}
}
