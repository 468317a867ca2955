package hip_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

func TestEmulatedDevices(t *testing.T) {
	for _, e := range []hiptest.Emulation{
		{}, {Wave: 32}, {Order: hiptest.Reverse}, {Order: hiptest.Random, Wave: 32}, {NoPools: true},
		{Platform: "cuda", Wave: 32}, {Platform: "cuda", Wave: 32, Order: hiptest.Random},
	} {
		t.Run(e.String(), func(t *testing.T) {
			d := hiptest.Emulated(t, e)
			hiptest.TestDevice(t, d)
		})
	}
	t.Run("checked", func(t *testing.T) {
		d, err := hip.OpenWith(hiptest.NewEmulator(t, hiptest.Emulation{}).Options())
		require.NoError(t, err)
		checked := hip.Check(d)
		hiptest.TestDevice(t, checked)
		require.NoError(t, checked.Close())
	})
}
