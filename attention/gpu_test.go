package attention

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestEveryLaunchOnGPUs runs the scenarios with every launch checked.
func TestEveryLaunchOnGPUs(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		for _, s := range scenarios() {
			t.Run(s.name, func(t *testing.T) {
				_, err := s.run(checked)
				require.NoError(t, err)
			})
		}
	})
}
