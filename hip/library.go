package hip

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// The platforms that a kernel's source is compiled for.
const (
	platformHIP  = "hip"
	platformCUDA = "cuda"
)

// search is where a library is looked for: every name in every folder, then
// wherever the system's loader looks. Names are newest first.
type search struct {
	names   []string
	folders []string // patterns of filepath.Glob; newest last
}

func driverSearch(platform string) search {
	windows := runtime.GOOS == "windows"
	switch {
	case platform == platformCUDA && windows:
		return search{names: named("nvcuda.dll")}
	case platform == platformCUDA:
		return search{names: named("libcuda.so.1", "libcuda.so"), folders: named("/usr/local/nvidia/lib64", "/usr/lib/wsl/lib")}
	case windows:
		return search{names: named("amdhip64_7.dll", "amdhip64_6.dll", "amdhip64.dll")}
	}
	return search{
		names:   named("libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"),
		folders: named("/opt/rocm-*/lib", "/opt/rocm/lib"),
	}
}

// compilerSearch prefers the HIP compiler of the driver's own release. Up to ROCm 6
// the driver library has the compiler too.
func compilerSearch(platform string, version int) search {
	windows := runtime.GOOS == "windows"
	switch {
	case platform == platformCUDA && windows:
		return search{names: named("nvrtc64_130_0.dll", "nvrtc64_120_0.dll", "nvrtc64_112_0.dll")}
	case platform == platformCUDA:
		return search{
			names:   named("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so.11", "libnvrtc.so"),
			folders: named("/usr/local/cuda-*/lib64", "/usr/local/cuda/lib64", "/opt/cuda/lib64"),
		}
	case windows:
		return search{names: named("hiprtc0700.dll", "hiprtc0604.dll", "hiprtc0507.dll", "amdhip64_7.dll", "amdhip64_6.dll", "amdhip64.dll")}
	}
	major := strconv.Itoa(version / 10_000_000)
	first := named("libhiprtc.so."+major, "libamdhip64.so."+major)
	s := driverSearch(platform)
	s.names = slices.Concat(first, named("libhiprtc.so.7", "libhiprtc.so.6", "libhiprtc.so.5", "libhiprtc.so"), s.names)
	return s
}

// open loads the first library that is there. A given path is the only one tried:
// a file, or a folder that holds a library of one of the names.
func (s search) open(given string) (handle uintptr, name string, err error) {
	candidates := []string{given}
	switch info, err := os.Stat(given); {
	case given == "":
		candidates = s.candidates()
	case err == nil && info.IsDir():
		candidates = nil
		for _, name := range s.names {
			candidates = append(candidates, filepath.Join(given, name))
		}
	}
	var failed error // of a file that is there
	for _, name := range candidates {
		handle, err := openLibrary(name)
		if err == nil {
			return handle, name, nil
		}
		if _, missing := os.Stat(name); failed == nil && (missing == nil || runtime.GOOS != "linux") {
			failed = errors.New(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", " "), name+": "))
		}
	}
	name = given
	if name == "" {
		name = s.names[len(s.names)-1]
	}
	if failed == nil {
		failed = errors.New("not found")
	}
	return 0, "", &LibraryError{Library: name, Err: failed}
}

func (s search) candidates() []string {
	all := slices.Clone(s.names)
	for _, pattern := range s.folders {
		folders, _ := filepath.Glob(pattern) // the patterns are well-formed
		for _, folder := range slices.Backward(folders) {
			for _, name := range s.names {
				all = append(all, filepath.Join(folder, name))
			}
		}
	}
	return all
}

// resolve finds the functions first … end−1 of the table.
func resolve(table *[numCalls]uintptr, platform string, library uintptr, name string, first, end call) error {
	for c := first; c < end; c++ {
		names := symbols[c].names(platform)
		for _, n := range names {
			if f, err := findSymbol(library, n); err == nil {
				table[c] = f
				break
			}
		}
		if table[c] == 0 && len(names) > 0 && !symbols[c].optional {
			return &LibraryError{Library: name, Symbol: names[0], Err: errors.New("not in this library")}
		}
	}
	return nil
}
