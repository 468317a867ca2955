//go:build unix

package hiptest_test

import (
	"runtime/debug"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/hiptest"
)

func TestGuarded(t *testing.T) {
	for _, n := range []int{1, 3, 1024, 5000} {
		values := hiptest.Guarded[float32](t, n)
		require.Len(t, values, n)
		values[0], values[n-1] = 1, 2
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		require.Panics(t, func() {
			*(*float32)(unsafe.Add(unsafe.Pointer(&values[n-1]), 4)) = 3
		}, "%d values", n)
	}
}
