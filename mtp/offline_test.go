package mtp_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/hip/hiptest/offline"
	_ "github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// What a block may have on every GPU that is compiled for.
const (
	mostShared  = 48 << 10
	mostThreads = 1024
)

// TestKernelsOffline compiles every kernel for every target, in groups of kernels
// that share a source: each has its one argument struct laid out as in Go, no
// registers in memory, and no more shared memory than every GPU has. The table of
// resources is logged.
func TestKernelsOffline(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("compilers run, and nothing of Go's: there are no races to find")
	}
	sources := map[string][]*hip.Kernel{}
	for _, k := range hip.Kernels() {
		if strings.HasPrefix(k.Name, "test_") {
			continue
		}
		require.NotEmpty(t, k.Source, "kernel %s has no GPU side", k.Name)
		sources[k.Source] = append(sources[k.Source], k)
	}
	require.NotEmpty(t, sources)
	found := map[string]map[offline.Target]offline.Resources{} // by kernel
	var mu sync.Mutex
	t.Run("compile", func(t *testing.T) {
		for source, kernels := range sources {
			assertions := ""
			if strings.Contains(source, "struct Segment") {
				assertions += offline.Layout(reflect.TypeFor[weights.Segment]())
			}
			for _, k := range kernels {
				assertions += offline.Layout(k.Args)
			}
			for _, target := range offline.Targets {
				t.Run(kernels[0].Name+"/"+target.Name, func(t *testing.T) {
					t.Parallel()
					of := compileOffline(t, source, assertions, target)
					for _, k := range kernels {
						r, ok := of[k.Name]
						require.True(t, ok, "no kernel %s", k.Name)
						require.Equal(t, int(k.Args.Size()), r.ArgsBytes, "%s: bytes of the argument struct", k.Name)
						require.Zero(t, r.Spills, "%s: registers in memory", k.Name)
						require.Zero(t, r.Stack, "%s: bytes of a thread's own memory", k.Name)
						require.LessOrEqual(t, r.Shared, mostShared, "%s: bytes of shared memory", k.Name)
						require.LessOrEqual(t, r.Threads, mostThreads, "%s: threads of a block", k.Name)
						if r.Wave != 0 {
							require.Equal(t, target.Wave, r.Wave, "%s: lanes of a wave", k.Name)
						}
						mu.Lock()
						if found[k.Name] == nil {
							found[k.Name] = map[offline.Target]offline.Resources{}
						}
						found[k.Name][target] = r
						mu.Unlock()
					}
				})
			}
		}
	})
	t.Log("\n" + resourceTable(found))
}

// compileOffline skips where there is no compiler, unless one is required.
func compileOffline(t *testing.T, source, assertions string, target offline.Target) map[string]offline.Resources {
	t.Helper()
	assembly, err := offline.Compile(context.Background(), source, assertions, target)
	if errors.Is(err, offline.ErrNoCompiler) {
		hiptest.Absent(t, "COMPILER", fmt.Errorf("kernels are not compiled: %w", err))
	}
	require.NoError(t, err)
	all, err := offline.Read(assembly, target)
	require.NoError(t, err)
	of := map[string]offline.Resources{}
	for _, r := range all {
		of[r.Kernel] = r
	}
	return of
}

// resourceTable has a line for each kernel: threads and shared bytes of a block, and
// for each target the vector registers of a thread, with those of the matrix unit. PTX
// does not say.
func resourceTable(found map[string]map[offline.Target]offline.Resources) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "kernel\tthreads\tshared\t")
	for _, target := range offline.Targets {
		fmt.Fprintf(w, "%s\t", target.Name)
	}
	for _, k := range hip.Kernels() {
		threads, shared, registers := 0, 0, ""
		for _, target := range offline.Targets {
			r, ok := found[k.Name][target]
			threads, shared = max(threads, r.Threads), max(shared, r.Shared)
			if ok && !target.PTX() {
				registers += fmt.Sprint(r.VectorRegs + r.MatrixRegs)
			}
			registers += "\t"
		}
		if found[k.Name] != nil {
			fmt.Fprintf(w, "\n%s\t%d\t%d\t%s", k.Name, threads, shared, registers)
		}
	}
	fmt.Fprintln(w)
	w.Flush()
	return b.String()
}

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
		_, err := offline.Compile(context.Background(), source(fields), offline.Layout(reflect.TypeFor[scaleArgs]()), target)
		if errors.Is(err, offline.ErrNoCompiler) {
			hiptest.Absent(t, "COMPILER", fmt.Errorf("kernels are not compiled: %w", err))
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
