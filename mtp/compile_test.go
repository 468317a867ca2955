package mtp_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// compiling is a device that compiles, and may fail to.
type compiling struct {
	hip.Device
	kernels []*hip.Kernel
	err     error
}

func (c *compiling) Compile(_ context.Context, kernels ...*hip.Kernel) error {
	c.kernels = kernels
	return c.err
}

func TestLoadCompilesEveryKernelFirst(t *testing.T) {
	files := synthetic{modules: 1, format: "MXFP8"}.files(t)
	host := hip.NewHost()
	defer host.Close()
	d := &compiling{Device: host}
	head, err := mtp.LoadFS(t.Context(), files, mtp.Options{Device: d})
	require.NoError(t, err)
	require.Equal(t, hip.Kernels(), d.kernels)
	require.NoError(t, head.Close())

	d.err = fmt.Errorf("kernel product for gfx942: %w\nproduct.hip:1: error", errDevice)
	_, err = mtp.LoadFS(t.Context(), files, mtp.Options{Device: d})
	require.ErrorIs(t, err, errDevice)
	require.ErrorContains(t, err, "product.hip:1: error")
	_, live := hiptest.InUse(host)
	require.Zero(t, live, "no bytes were moved, nothing is left")
}
