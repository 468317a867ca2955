package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/ranks"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// checkedCase also has every kernel run beside its reference.
const checkedCase = "tiny-init1-local2"

// TestGoldenOnEmulations holds every stage and chain of the golden cases to its bound,
// on every emulation.
func TestGoldenOnEmulations(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			dir := caseFolder(t, name)
			hiptest.OnEmulations(t, func(t *testing.T, _, _ int, d hip.Device) {
				if name == checkedCase {
					d = hip.Check(d)
				}
				r, err := verifyCase(context.Background(), dir, ranks.Only(d), 0)
				require.NoError(t, err)
				require.Empty(t, r.Error)
				require.Greater(t, len(r.Stages), 30)
				for _, s := range r.Stages {
					require.True(t, s.OK, "%s: off by %.3g, bound %.3g, largest %.3g", s.Name, s.MaxAbs, s.Bound, s.MaxRef)
				}
				require.True(t, r.OK)
			})
		})
	}
}
