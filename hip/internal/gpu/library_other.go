//go:build !(linux && (amd64 || arm64)) && !(windows && amd64)

package gpu

import (
	"fmt"
	"runtime"
)

func openLibrary(string) (uintptr, error) {
	return 0, fmt.Errorf("GPUs are not supported on %s/%s", runtime.GOOS, runtime.GOARCH)
}

func findSymbol(library uintptr, name string) (uintptr, error) { return openLibrary(name) }

// callSymbol is never reached: no library opens.
func callSymbol(uintptr, ...uintptr) uintptr { return ^uintptr(0) }
