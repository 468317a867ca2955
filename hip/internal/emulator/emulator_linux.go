//go:build amd64 || arm64

package emulator

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/need"
)

//go:embed runtime
var emulatorSource embed.FS

const emulatorLibrary = "libemulator.so"

// Emulator is an emulated driver with its run-time compiler. Every one has a state
// of its own, so that tests may run at the same time.
type Emulator struct {
	*instance
	settings Settings
}

// instance is a loaded copy of the emulator. The system loads each library file once, so
// every instance has a file of its own. Libraries are never unloaded: an instance that a
// test has left empty serves the next test.
type instance struct {
	library string
	built   string // folder of the emulator

	configure, counts, fail, selectDevice, selected uintptr
}

var instances struct {
	mu   sync.Mutex
	free []*instance
	made int
}

// layout is the emulator's own Settings.
type layout struct {
	devices, wave, order, workers, memory, version, pools, eager, groups, pinned int64
	compiler, include, arch, meetings                                            *byte
}

// New returns an emulator that has given out nothing. The test fails if its devices have
// not given back everything at the end.
func New(t testing.TB, e Settings) *Emulator {
	t.Helper()
	e.fill()
	compiler, err := cxx()
	if err != nil {
		need.Absent(t, "COMPILER", fmt.Errorf("the emulator needs a C++ compiler: %w", err))
	}
	i, err := takeInstance(compiler)
	require.NoError(t, err)
	meetings, err := os.MkdirTemp("", "ranks-") // a short name: a group's id is the path of a file in it
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(meetings) })
	s := layout{
		devices: int64(max(e.Devices, 0)), wave: int64(e.Wave), order: int64(e.Order), workers: int64(e.Workers),
		memory: e.Memory, version: int64(e.Version), groups: int64(e.Groups), pinned: math.MaxInt64, compiler: cString(compiler), include: cString(filepath.Join(i.built, "runtime")), arch: cString(e.Arch), meetings: cString(meetings),
	}
	if !e.NoPools {
		s.pools = 1
	}
	if e.Pinned != 0 {
		s.pinned = int64(max(e.Pinned, 0))
	}
	if e.Eager {
		s.eager = 1
	}
	purego.SyscallN(i.configure, uintptr(unsafe.Pointer(&s)))
	runtime.KeepAlive(&s)
	m := &Emulator{instance: i, settings: e}
	t.Cleanup(func() {
		m.FailAt(0)
		left := m.Counts()
		require.Zero(t, left, "left with the driver")
		instances.mu.Lock()
		defer instances.mu.Unlock()
		instances.free = append(instances.free, i)
	})
	return m
}

func takeInstance(compiler string) (*instance, error) {
	instances.mu.Lock()
	defer instances.mu.Unlock()
	if n := len(instances.free); n > 0 {
		i := instances.free[n-1]
		instances.free = instances.free[:n-1]
		return i, nil
	}
	built, err := buildEmulator(compiler)
	if err != nil {
		return nil, err
	}
	i := &instance{built: built, library: filepath.Join(built, strconv.Itoa(instances.made), emulatorLibrary)}
	if err := copyOnce(i.library, filepath.Join(built, emulatorLibrary)); err != nil {
		return nil, err
	}
	handle, err := purego.Dlopen(i.library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	for name, to := range map[string]*uintptr{
		"emulator_configure": &i.configure, "emulator_counts": &i.counts, "emulator_fail": &i.fail,
		"emulator_select": &i.selectDevice, "emulator_selected": &i.selected,
	} {
		if *to, err = purego.Dlsym(handle, name); err != nil {
			return nil, err
		}
	}
	instances.made++
	return i, nil
}

// copyOnce copies a file, unless another process has.
func copyOnce(to, from string) error {
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	code, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(to), "new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(code)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), to)
	}
	return err
}

func cString(s string) *byte { return &append([]byte(s), 0)[0] }

// Options opens a device of the emulator.
func (m *Emulator) Options() hip.OpenOptions {
	return hip.OpenOptions{Platform: m.settings.Platform, Library: m.library, Compiler: m.library, CacheDir: filepath.Join(m.built, "kernels")}
}

// Counts returns what the driver has given out.
func (m *Emulator) Counts() Counts {
	c := new(Counts)
	purego.SyscallN(m.counts, uintptr(unsafe.Pointer(c)))
	runtime.KeepAlive(c)
	return *c
}

// Select makes a device current on the calling thread, as an engine would. A thread begins
// with -1.
func (m *Emulator) Select(device int) { purego.SyscallN(m.selectDevice, uintptr(device)) }

// Selected returns the calling thread's current device; on CUDA -1 is none.
func (m *Emulator) Selected() int {
	device, _, _ := purego.SyscallN(m.selected)
	return int(int32(device))
}

// FailAt makes the n-th call of the driver from now fail with error 304, counted from 1; 0
// lets all succeed. Calls that give something back do not count. It returns how many calls
// were made since the last FailAt.
func (m *Emulator) FailAt(n int) (calls int) {
	made, _, _ := purego.SyscallN(m.fail, uintptr(n))
	return int(made)
}

// machines are the compilers' names for the machines that the emulator runs on.
var machines = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// cxx returns a C++ compiler for this program's machine. The system's may be for another
// one: the program may run under qemu.
var cxx = sync.OnceValues(func() (path string, err error) {
	machine := machines[runtime.GOARCH]
	errs := []error{fmt.Errorf("no c++, g++ or clang++ for %s: %w", machine, exec.ErrNotFound)}
	for _, name := range []string{"c++", "g++", "clang++", machine + "-linux-gnu-g++"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		target, err := exec.Command(path, "-dumpmachine").Output()
		if err == nil && strings.HasPrefix(string(target), machine+"-") {
			return path, nil
		}
		errs = append(errs, fmt.Errorf("%s is for %q", path, strings.TrimSpace(string(target))), err)
	}
	return "", errors.Join(errs...)
})

// buildEmulator returns the folder of the built library, which is shared by all test
// processes and named by what it was built from.
func buildEmulator(compiler string) (string, error) {
	buildMu.Lock()
	defer buildMu.Unlock()
	id, err := emulatorID(compiler)
	if err != nil {
		return "", err
	}
	root, err := os.UserCacheDir()
	if err != nil {
		root = os.TempDir()
	}
	root = filepath.Join(root, "drafthead")
	built := filepath.Join(root, "emulator-"+id)
	if _, err := os.Stat(filepath.Join(built, emulatorLibrary)); err == nil {
		return built, nil
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(root, "build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := os.CopyFS(work, emulatorSource); err != nil {
		return "", err
	}
	command := exec.Command(compiler, append(emulatorFlags, "-o", filepath.Join(work, emulatorLibrary), filepath.Join(work, "runtime", "emulator.cpp"), "-ldl", "-lpthread")...)
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	// Whoever is first has built it for all.
	if err := os.Rename(work, built); err != nil {
		if _, missing := os.Stat(filepath.Join(built, emulatorLibrary)); missing != nil {
			return "", err
		}
	}
	return built, nil
}

var emulatorFlags = []string{"-std=c++17", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden"}

var buildMu sync.Mutex

// emulatorID names the sources, the compiler and its flags.
func emulatorID(compiler string) (string, error) {
	h := sha256.New()
	version, err := exec.Command(compiler, "--version").Output()
	if err != nil {
		return "", err
	}
	h.Write(version)
	fmt.Fprintf(h, "%s%q", runtime.GOARCH, emulatorFlags)
	err = fs.WalkDir(emulatorSource, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := emulatorSource.ReadFile(path)
		h.Write([]byte(path))
		h.Write(text)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)[:8]), err
}
