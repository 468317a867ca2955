package gpu

import (
	"errors"
	"fmt"
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

// search says where a library is looked for. The names of one group are tried first, where
// the system's loader looks and then in every folder; those of the next group follow.
type search struct {
	groups  [][]string // each with the newest name first
	folders []string   // patterns of filepath.Glob
}

func driverSearch(platform string) search {
	windows := runtime.GOOS == "windows"
	switch {
	case platform == platformCUDA && windows:
		return search{groups: groups(named("nvcuda.dll"))}
	case platform == platformCUDA:
		return search{groups: groups(named("libcuda.so.1", "libcuda.so")), folders: named("/usr/local/nvidia/lib64", "/usr/lib/wsl/lib")}
	case windows:
		return search{groups: groups(named("amdhip64_7.dll", "amdhip64_6.dll", "amdhip64.dll"))}
	}
	return search{
		groups:  groups(named("libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so")),
		folders: named("/opt/rocm/lib", "/opt/rocm-*/lib"),
	}
}

// compilerSearch prefers the compiler of the driver's own major release: code of a
// newer one may be too new for it. Up to ROCm 6 the driver library has the compiler
// too.
func compilerSearch(d *driver) search {
	windows := runtime.GOOS == "windows"
	switch {
	case d.platform == platformCUDA && windows:
		name := func(major int) string { return fmt.Sprintf("nvrtc64_%d0_0.dll", major) }
		return search{groups: groups(named(name(d.version/1000)), named(name(13), name(12), "nvrtc64_112_0.dll"))}
	case d.platform == platformCUDA:
		own := named("libnvrtc.so." + strconv.Itoa(d.version/1000))
		if d.version/1000 == 11 {
			own = named("libnvrtc.so.11.2", "libnvrtc.so.11")
		}
		return search{
			groups:  groups(own, named("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so.11", "libnvrtc.so")),
			folders: named("/usr/local/cuda/lib64", "/usr/local/cuda-*/lib64", "/opt/cuda/lib64"),
		}
	case windows:
		return search{groups: groups(named("hiprtc0700.dll", "hiprtc0604.dll", "hiprtc0507.dll", "amdhip64_7.dll", "amdhip64_6.dll", "amdhip64.dll"))}
	}
	major := strconv.Itoa(d.version / 10_000_000)
	s := driverSearch(d.platform)
	s.groups = slices.Concat(groups(
		named("libhiprtc.so."+major, "libamdhip64.so."+major),
		named("libhiprtc.so.7", "libhiprtc.so.6", "libhiprtc.so.5", "libhiprtc.so"),
	), s.groups)
	if filepath.IsAbs(d.name) { // what lies beside the driver goes with it
		s.folders = append(named(filepath.Dir(d.name)), s.folders...)
	}
	return s
}

func groups(of ...[]string) [][]string { return of }

// open loads the first library that is there and that accept takes. A given path is
// the only one tried: a file, or a folder that holds a library of one of the names.
// The error is that of the first file that was there.
func (s search) open(given string, accept func(library uintptr, name string) error) error {
	var first error
	for _, name := range s.candidates(given) {
		library, err := openLibrary(name)
		if err == nil {
			if err = accept(library, name); err == nil {
				return nil
			}
		} else if _, missing := os.Stat(name); missing == nil || runtime.GOOS != "linux" {
			reason := errors.New(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", " "), name+": "))
			err = &LibraryError{Library: name, Err: reason}
		} else {
			err = nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		name := given
		if name == "" {
			last := s.groups[len(s.groups)-1]
			name = last[len(last)-1]
		}
		first = &LibraryError{Library: name, Err: errors.New("not found")}
	}
	return first
}

func (s search) candidates(given string) []string {
	info, err := os.Stat(given)
	if given != "" && (err != nil || !info.IsDir()) {
		return []string{given}
	}
	folders := []string{given}
	if given == "" { // where the loader looks
		for _, pattern := range s.folders {
			matches, _ := filepath.Glob(pattern) // the patterns are well-formed
			slices.SortStableFunc(matches, newestFirst)
			folders = append(folders, matches...)
		}
	}
	var all []string
	for _, names := range s.groups {
		for _, folder := range folders {
			for _, name := range names {
				all = append(all, filepath.Join(folder, name))
			}
		}
	}
	return all
}

// newestFirst orders paths by the numbers in them: rocm-6.10 comes before rocm-6.9.
func newestFirst(a, b string) int {
	numbers := func(path string) (all []int) {
		for _, digits := range strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' }) {
			n, _ := strconv.Atoi(digits)
			all = append(all, n)
		}
		return all
	}
	return slices.Compare(numbers(b), numbers(a))
}

// resolve finds the functions first … end−1 of the table.
func resolve(table *[numCalls]uintptr, platform string, library uintptr, name string, first, end call) error {
	clear(table[first:end]) // of a library that was not accepted
	for c := first; c < end; c++ {
		names := symbols[c].names(platform)
		for _, n := range names {
			if f, err := findSymbol(library, n); err == nil {
				table[c] = f
				break
			}
		}
		if table[c] == 0 && len(names) > 0 && !symbols[c].optional {
			return &LibraryError{Library: name, Symbol: names[0], Err: errAbsent}
		}
	}
	return nil
}
