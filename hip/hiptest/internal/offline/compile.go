// Package offline compiles HIP kernels for GPUs that are not there, with clang
// and no vendor's software, and reads what the assembly says of them: registers,
// spills, shared memory, and how arguments are laid out.
package offline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/drafthead/drafthead/hip/internal/prelude"
)

// The compilers that are looked for. The code generators for AMD and NVIDIA are part of
// every build of clang; that for gfx950 came after version 19.
const (
	command       = "clang-19"
	commandGfx950 = "clang-22"
)

// ErrNoCompiler is a machine without the compiler of a target.
var ErrNoCompiler = errors.New("no compiler")

// Target is a GPU architecture as clang names it, the lanes of its waves, and the compiler
// that has it.
type Target struct {
	Name    string
	Wave    int
	Command string
}

// Targets are what kernels are compiled for: AMD's CDNA 2, 3 and 4 and RDNA 2, 3, 3.5
// and 4, and NVIDIA's Hopper, as PTX.
var Targets = []Target{
	{"gfx90a", 64, command}, {"gfx942", 64, command}, {"gfx950", 64, commandGfx950},
	{"gfx1030", 32, command}, {"gfx1100", 32, command}, {"gfx1151", 32, command}, {"gfx1200", 32, command}, {"gfx1201", 32, command},
	{"sm_90", 32, command},
}

// PTX reports whether code for the target is PTX, which is compiled once more on the
// machine that runs it: what it says of registers is not final.
func (t Target) PTX() bool { return strings.HasPrefix(t.Name, "sm_") }

// Compile returns the assembly of one source after the prelude, followed by
// assertions: C++ that must compile with it. Errors wrap [ErrNoCompiler] or hold
// what the compiler said.
func Compile(ctx context.Context, source, assertions string, t Target) (string, error) {
	path, err := exec.LookPath(t.Command)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoCompiler, err)
	}
	args := []string{"--cuda-device-only", "-nogpulib", "-fdeclspec", "-std=c++17", "-O3", "-Wall", "-Werror", "-Wno-unused-function", "-Wno-unused-const-variable",
		"-DDH_NO_HEADERS", "-DDH_WAVE=" + strconv.Itoa(t.Wave), "-S", "-o", "-"}
	if t.PTX() {
		args = append(args, "-xcuda", "--cuda-gpu-arch="+t.Name, "-nocudainc", "-nocudalib", "-Xclang", "-target-feature", "-Xclang", "+ptx80")
	} else {
		args = append(args, "-xhip", "--offload-arch="+t.Name, "-nogpuinc", "--no-gpu-bundle-output")
	}
	cmd := exec.CommandContext(ctx, path, append(args, "-")...)
	cmd.Stdin = strings.NewReader(prelude.Text() + "\n#line 1 \"kernel.hip\"\n" + source + "\n#line 1 \"assertions\"\n" + assertions)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s for %s: %w\n%s", t.Command, t.Name, err, said.String())
	}
	return out.String(), nil
}
