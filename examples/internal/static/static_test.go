// Package static tests what a program without GPUs needs of a system: nothing. The program is in
// testdata, so that "go install ./examples/..." leaves it out.
package static

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// build returns a program of the repository, built without cgo.
func build(t *testing.T, folder, arch string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	command := exec.Command("go", "build", "-o", program, folder)
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

// dynamic reports whether a program needs the system's loader to start.
func dynamic(t *testing.T, program string) bool {
	t.Helper()
	f, err := elf.Open(program)
	require.NoError(t, err)
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return true
		}
	}
	return f.Section(".dynamic") != nil || f.Section(".interp") != nil
}

// TestProgramsWithoutGPUsAreStatic: without hip/gpu nothing needs the dynamic loader, on
// either of the architectures that have GPUs.
func TestProgramsWithoutGPUsAreStatic(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs for two architectures")
	}
	for _, arch := range []string{"amd64", "arm64"} {
		for _, folder := range []string{"./testdata", "../../inspect", "../../synth"} {
			require.False(t, dynamic(t, build(t, folder, arch)), "%s, %s", folder, arch)
		}
	}
	require.True(t, dynamic(t, build(t, "../../draft", "amd64")), "which has GPUs")
}

// TestStaticDrafts runs the program: it drafts, and says what it lacks to open a GPU.
func TestStaticDrafts(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("builds for Linux")
	}
	out, err := exec.Command(build(t, "./testdata", runtime.GOARCH), "../../m3tiny/checkpoint").CombinedOutput()
	require.NoError(t, err, "%s", out)
	tokens, opened, _ := strings.Cut(string(out), "\n")
	require.Len(t, strings.Fields(tokens), 4)
	require.Equal(t, `hip: the program has no GPUs: import _ "github.com/drafthead/drafthead/hip/gpu"`, strings.TrimSpace(opened))
}
