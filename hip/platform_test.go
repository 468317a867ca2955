package hip_test

import (
	"go/build"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPlatforms: machines that results would be wrong on are refused when the library is
// built.
func TestPlatforms(t *testing.T) {
	for arch, refused := range map[string]bool{
		"386": true, "arm": true, "mips": true, "mipsle": true, "s390x": true, "ppc64": true, "mips64": true,
		"amd64": false, "arm64": false, "riscv64": false, "loong64": false, "ppc64le": false, "mips64le": false,
	} {
		context := build.Default
		context.GOOS, context.GOARCH = "linux", arch
		match, err := context.MatchFile(".", "platform_other.go")
		require.NoError(t, err)
		require.Equal(t, refused, match, arch)
	}
}
