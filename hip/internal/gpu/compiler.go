package gpu

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/fail"
	"github.com/drafthead/drafthead/hip/internal/prelude"
	"github.com/drafthead/drafthead/hip/internal/registry"
)

const preludeName = "prelude.h"

// compiler is a platform's run-time compiler, set for one architecture.
type compiler struct {
	driver  *driver // whose table has the compiler's functions
	name    string  // of the library
	version string
	arch    string
	target  string // what it compiles for
	options []string
	ptx     bool // the driver makes the code
	cache   *codeCache
}

// openCompiler loads the run-time compiler that goes with d: the first that compiles
// for the device.
func openCompiler(d *driver, about *GPU, opts *hip.OpenOptions) (c *compiler, err error) {
	err = compilerSearch(d).open(opts.Compiler, func(library uintptr, name string) error {
		if err := resolve(&d.function, d.platform, library, name, firstCompilerCall, numCalls); err != nil {
			return err
		}
		c = &compiler{driver: d, name: name, arch: about.Arch, cache: newCodeCache(opts)}
		return c.prepare(about)
	})
	if err != nil {
		return nil, fail.With(err, "run-time compiler for %s", about.Name)
	}
	return c, nil
}

func (c *compiler) prepare(about *GPU) error {
	var major, minor int32
	if err := c.driver.call("open", callCompilerVersion, uintptr(unsafe.Pointer(&major)), uintptr(unsafe.Pointer(&minor))); err != nil {
		return err
	}
	c.version = fmt.Sprintf("%d.%d", major, minor)
	c.options = []string{fmt.Sprintf("-DDH_WAVE=%d", about.WaveSize), "-std=c++17"}
	c.target = c.arch
	if c.driver.platform == platformHIP {
		// Only for the device's own architecture: older releases of the compiler end
		// the process over one that they do not know.
		c.options = append(c.options, "-O3", "--offload-arch="+c.arch)
		return nil
	}
	var err error
	c.target, err = c.targetOf(about.Arch)
	if c.target == hopper && major >= 12 {
		c.target += "a" // the instructions of this architecture alone, too
	}
	c.options = append(c.options, "--gpu-architecture="+c.target)
	return err
}

// hopper is an architecture with instructions of its own, which NVRTC has from 12.0 on.
const hopper = "sm_90"

// withMatrixUnits are how the names of AMD's architectures begin for which the prelude defines
// HAS_MATRIX_UNITS; the last is that of an emulated GPU.
var withMatrixUnits = []string{"gfx90a", "gfx940", "gfx941", "gfx942", "gfx950", "gfx11", "gfx1200", "gfx1201", "gfxemulated"}

// hasMatrixUnits reports whether the prelude has them in code for the target. It says no where
// it is not known.
func (c *compiler) hasMatrixUnits() bool {
	if c.driver.platform == platformHIP {
		return slices.ContainsFunc(withMatrixUnits, func(name string) bool { return strings.HasPrefix(c.target, name) })
	}
	return c.capability() >= 80
}

// capability returns NVIDIA's compute capability of the target, such as 90, or 0 where it is not
// known.
func (c *compiler) capability() int {
	_, number, _ := strings.Cut(c.target, "_") // of sm_90a or compute_90
	n, err := strconv.Atoi(strings.TrimRight(number, "a"))
	if err != nil {
		return 0
	}
	return n
}

// targetOf returns what NVRTC compiles for: the GPU's own code or, where it is older
// than the GPU, the newest PTX that the driver can translate.
func (c *compiler) targetOf(arch string) (string, error) {
	d := c.driver
	if d.function[callArchCount] == 0 || d.function[callArchs] == 0 {
		return arch, nil
	}
	var n int32
	if err := d.call("open", callArchCount, uintptr(unsafe.Pointer(&n))); err != nil {
		return "", err
	}
	known := make([]int32, max(n, 1))
	if err := d.call("open", callArchs, uintptr(unsafe.Pointer(&known[0]))); err != nil {
		return "", err
	}
	newest := int32(0)
	for _, k := range known {
		if fmt.Sprintf("sm_%d", k) == arch {
			return arch, nil
		}
		var own int32
		if _, err := fmt.Sscanf(arch, "sm_%d", &own); err == nil && k < own {
			newest = max(newest, k)
		}
	}
	if newest == 0 {
		return "", &LibraryError{Library: c.name, Err: fmt.Errorf("does not compile for %s", arch)}
	}
	c.ptx = true
	return fmt.Sprintf("compute_%d", newest), nil
}

// unit is a source with all its kernels, as the compiler gets it.
type unit struct {
	kernel string // that it is compiled for, for messages
	name   string // of the file
	text   string
}

// newUnit wraps k's source. The end of it compares the argument structs of both
// languages: a kernel that is missing, or laid out otherwise, does not compile.
func newUnit(k *registry.Kernel) *unit {
	var kernels []*registry.Kernel
	for _, other := range registry.Kernels() {
		if other.Source == k.Source {
			kernels = append(kernels, other)
		}
	}
	u := &unit{kernel: k.Name, name: kernels[0].Name + ".hip"} // the same whichever is first
	var b strings.Builder
	fmt.Fprintf(&b, "#include \"%s\"\n#line 1 \"%s\"\n%s\n#line 1 \"arguments of %s\"\n", preludeName, u.name, k.Source, u.name)
	b.WriteString("template <class F> struct ArgumentOf;\n" +
		"template <class A> struct ArgumentOf<void(A)> { enum { bytes = sizeof(A) }; };\n")
	for _, k := range kernels {
		fmt.Fprintf(&b, "static_assert(ArgumentOf<decltype(%s)>::bytes == %d, \"the argument struct of %s has another size in Go\");\n",
			k.Name, k.Args.Size(), k.Name)
	}
	u.text = b.String()
	return u
}

// compile returns the code of a unit. The caller has entered the device.
func (c *compiler) compile(u *unit) ([]byte, error) {
	code, log, err := c.run(u)
	if err != nil {
		return nil, compileError(u.kernel, c.arch, log, err)
	}
	return code, nil
}

// oneCompilation is held while hipRTC compiles: the one of ROCm 5.2 crashes if programs
// compile side by side. NVRTC may be called from many threads.
var oneCompilation sync.Mutex

func (c *compiler) run(u *unit) (code []byte, log string, err error) {
	d := c.driver
	if d.platform == platformHIP {
		oneCompilation.Lock()
		defer oneCompilation.Unlock()
	}
	strs := new(cStrings)
	defer strs.release()
	text, name := strs.add(u.text), strs.add(u.name)
	headers, headerNames := strs.array(prelude.Text()), strs.array(preludeName)
	var program uintptr
	if err := d.call("compile", callProgramCreate, uintptr(unsafe.Pointer(&program)), uintptr(text), uintptr(name), 1, uintptr(headers), uintptr(headerNames)); err != nil {
		return nil, "", err
	}
	defer func() {
		if e := d.call("compile", callProgramDestroy, uintptr(unsafe.Pointer(&program))); err == nil {
			err = e
		}
	}()
	if err := d.call("compile", callProgramCompile, program, uintptr(len(c.options)), uintptr(strs.array(c.options...))); err != nil {
		return nil, c.log(program), err
	}
	size, get := callProgramCodeSize, callProgramCode
	if c.ptx {
		size, get = callProgramPTXSize, callProgramPTX
	}
	var n uintptr
	if err := d.call("compile", size, program, uintptr(unsafe.Pointer(&n))); err != nil {
		return nil, "", err
	}
	if n == 0 || n > mostCode {
		return nil, c.log(program), errors.New("the compiler returned no code")
	}
	code = make([]byte, n)
	return code, "", d.call("compile", get, program, uintptr(unsafe.Pointer(&code[0])))
}

// log returns what the compiler said, or why that is not known.
func (c *compiler) log(program uintptr) string {
	var n uintptr
	if err := c.driver.call("compile", callProgramLogSize, program, uintptr(unsafe.Pointer(&n))); err != nil {
		return err.Error()
	}
	if n == 0 || n > 1<<30 {
		return ""
	}
	text := make([]byte, n)
	if err := c.driver.call("compile", callProgramLog, program, uintptr(unsafe.Pointer(&text[0]))); err != nil {
		return err.Error()
	}
	return strings.TrimRight(string(text), "\x00")
}

// cStrings is Go memory laid out as C strings, pinned until it is released.
type cStrings struct {
	pin runtime.Pinner
}

func (s *cStrings) add(text string) unsafe.Pointer {
	b := append([]byte(text), 0)
	s.pin.Pin(&b[0])
	return unsafe.Pointer(&b[0])
}

func (s *cStrings) array(texts ...string) unsafe.Pointer {
	pointers := make([]unsafe.Pointer, len(texts)+1)
	for i, text := range texts {
		pointers[i] = s.add(text)
	}
	s.pin.Pin(&pointers[0])
	return unsafe.Pointer(&pointers[0])
}

func (s *cStrings) release() { s.pin.Unpin() }
