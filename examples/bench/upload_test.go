package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

func TestLoadClock(t *testing.T) {
	var c loadClock
	require.Zero(t, c.rate())
	told := int64(0)
	f := c.around(func(done, _ int64) { told = done })
	f(5, 9)
	f(9, 9)
	require.Equal(t, int64(9), told)
	c.last = c.first.Add(2 * time.Nanosecond)
	require.InDelta(t, 2, c.rate(), 1e-9)
}

func TestBusRate(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		rate, err := busRate(d, d.(filler), 1<<20)
		require.NoError(t, err)
		require.Positive(t, rate)
	})
}

func TestDiskRate(t *testing.T) {
	folder := t.TempDir()
	rate, err := diskRate(folder)
	require.NoError(t, err)
	require.Zero(t, rate, "no file")
	require.NoError(t, os.WriteFile(filepath.Join(folder, "a"), make([]byte, diskPart+1), 0o600))
	rate, err = diskRate(folder)
	require.NoError(t, err)
	require.GreaterOrEqual(t, rate, 0.0)
	_, err = diskRate(filepath.Join(folder, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestUploadOfHost(t *testing.T) {
	d := hip.NewHost(1)
	defer d.Close()
	u, err := measureUpload(d, "", &loadClock{})
	require.NoError(t, err)
	require.Nil(t, u)
	var out bytes.Buffer
	(&upload{GBps: 4, BusGBps: 8, Ratio: 0.5}).print(&out)
	require.Equal(t, "upload         4.00 GB/s, bus 8.00 GB/s, disk not measured: 50.0 % of the slower\n", out.String())
}
