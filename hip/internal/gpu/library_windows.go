//go:build amd64

package gpu

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/windows"
)

// openLibrary loads a library. A bare name is looked for beside the program, in the system's
// folder, and in the folders of PATH that are absolute: LoadLibrary would look in the
// working folder too, where anybody may have put a library of that name.
func openLibrary(name string) (uintptr, error) {
	if strings.ContainsAny(name, `\/:`) {
		return loadFile(name)
	}
	library, err := windows.LoadLibraryEx(name, 0, windows.LOAD_LIBRARY_SEARCH_DEFAULT_DIRS)
	if err == nil {
		return uintptr(library), nil
	}
	for _, folder := range filepath.SplitList(os.Getenv("PATH")) {
		if !filepath.IsAbs(folder) {
			continue
		}
		path := filepath.Join(folder, name)
		if info, missing := os.Stat(path); missing != nil || !info.Mode().IsRegular() {
			continue
		}
		found, bad := loadFile(path)
		if bad == nil {
			return found, nil
		}
		err = errors.Join(err, bad)
	}
	return 0, err
}

// loadFile loads the library of a path, with the libraries that it needs from beside it.
func loadFile(path string) (uintptr, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return 0, err
	}
	library, err := windows.LoadLibraryEx(path, 0, windows.LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR|windows.LOAD_LIBRARY_SEARCH_DEFAULT_DIRS)
	return uintptr(library), err
}

func findSymbol(library uintptr, name string) (uintptr, error) {
	return syscall.GetProcAddress(syscall.Handle(library), name)
}

//go:uintptrescapes
func callSymbol(f uintptr, args ...uintptr) uintptr {
	r, _, _ := syscall.SyscallN(f, args...)
	return r
}
