package offline_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest/internal/offline"
	"github.com/drafthead/drafthead/hip/internal/need"
)

// TestOfflineFindsLayouts: a field that lies elsewhere, has another type, another
// name, or is missing does not compile.
func TestOfflineFindsLayouts(t *testing.T) {
	type scaleArgs struct {
		X hip.Ptr
		N int32
		K float32
	}
	source := func(fields string) string {
		return "struct scaleArgs { " + fields + " };\nKERNEL(64) void scale(scaleArgs a) { a.X[threadIdx.x] *= 2; }\n"
	}
	target := offline.Targets[0]
	compile := func(fields string) error {
		_, err := offline.Compile(t.Context(), source(fields), offline.Layout(reflect.TypeFor[scaleArgs]()), target)
		if errors.Is(err, offline.ErrNoCompiler) {
			need.Absent(t, "COMPILER", err)
		}
		return err
	}
	require.NoError(t, compile("float *X; int32 N; float K;"))
	for name, fields := range map[string]string{
		"order": "float *X; float K; int32 N;", "type": "float *X; uint32 N; float K;", "width": "float *X; int64 N; float K;",
		"name": "float *X; int32 M; float K;", "missing": "float *X; int32 N;", "more": "float *X; int32 N; float K; double Y;",
	} {
		require.ErrorContains(t, compile(fields), "scaleArgs", name)
	}
}
