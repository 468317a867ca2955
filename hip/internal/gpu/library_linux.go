//go:build amd64 || arm64

package gpu

import "github.com/ebitengine/purego"

// openLibrary loads a shared library. Libraries are never unloaded: drivers start
// threads that outlive their devices.
func openLibrary(name string) (uintptr, error) {
	return purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

func findSymbol(library uintptr, name string) (uintptr, error) {
	return purego.Dlsym(library, name)
}

// callSymbol calls a C function. Whatever args point to must stay alive.
//
//go:uintptrescapes
func callSymbol(f uintptr, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(f, args...)
	return r
}
