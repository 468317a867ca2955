package docs

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	_ "github.com/drafthead/drafthead/hip/hiptest"
	_ "github.com/drafthead/drafthead/mtp"
)

var (
	embedded = regexp.MustCompile(`(?m)^\s*//go:embed (\S+\.(?:hip|h))$`)
	written  = regexp.MustCompile(`(?m)^KERNEL\([^)]*\) void (\w+)\(`)
)

// TestKernelFiles: every file of HIP source is embedded where it lies; one that ends in
// .hip has the kernels of its name, and of that name with something after it, one that ends
// in .h has none of its own. Every kernel is of such a file.
func TestKernelFiles(t *testing.T) {
	names := map[string]bool{} // of kernels that GPUs run
	for _, k := range hip.Kernels() {
		if threads, _, _ := k.Declared(); threads > 0 {
			names[k.Name] = true
		}
	}
	require.NotEmpty(t, names)
	found := map[string]string{} // kernels by name: the file
	for _, file := range sources(t, root) {
		folder, base := path.Split(file)
		require.Contains(t, embedsOf(t, filepath.Join(root, folder)), base, "no Go file embeds %s", file)
		text, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		for _, kernel := range written.FindAllStringSubmatch(string(text), -1) {
			require.True(t, names[kernel[1]], "%s has %s, which Go does not declare, or not with its threads", file, kernel[1])
		}
		name, isKernel := strings.CutSuffix(base, ".hip")
		if !isKernel {
			require.NotRegexp(t, written, string(text), "%s is for several kernels", file)
			continue
		}
		its := 0
		for kernel := range names {
			if kernel != name && !strings.HasPrefix(kernel, name+"_") {
				continue
			}
			its++
			if len(file) > len(found[kernel]) || !strings.HasPrefix(found[kernel], folder) { // the longest name
				found[kernel] = file
			}
		}
		require.Positive(t, its, "%s is named as no kernel", file)
	}
	for kernel := range names {
		require.NotEmpty(t, found[kernel], "no file is named as %s", kernel)
	}
}

// sources returns the paths of the library's HIP sources, as they are in the repository.
func sources(t *testing.T, root string) (files []string) {
	t.Helper()
	list, err := exec.Command("git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "*.hip", "*.h").Output()
	if err != nil {
		t.Skip("not a git repository: ", err)
	}
	for file := range strings.Lines(string(list)) {
		file = strings.TrimSpace(file)
		if _, err := os.Stat(filepath.Join(root, file)); err == nil && !strings.Contains(file, "/testdata/") && !strings.Contains(file, "/emulator/") {
			files = append(files, file)
		}
	}
	return files
}

// embedsOf returns the sources that the Go files of a folder embed.
func embedsOf(t *testing.T, folder string) (files []string) {
	t.Helper()
	goFiles, err := filepath.Glob(filepath.Join(folder, "*.go"))
	require.NoError(t, err)
	for _, file := range goFiles {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, match := range embedded.FindAllStringSubmatch(string(text), -1) {
			files = append(files, match[1])
		}
	}
	return files
}
