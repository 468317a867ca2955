package hiptest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest/internal/offline"
	"github.com/drafthead/drafthead/hip/internal/need"
	"github.com/drafthead/drafthead/hip/internal/registry"
)

// What every GPU that is compiled for offers a block.
const (
	mostShared  = 48 << 10
	mostThreads = 1024
)

// CompileOffline compiles every kernel of the test's program for GPUs that are not there,
// in groups of kernels that share a source. It checks that each argument struct is laid out
// as in Go, that no registers spill to memory, that AMD's compiler knows many loads to be of
// the GPU's memory, and that every GPU has enough shared memory. structs are values of struct
// types; those that a source declares must be laid out as in Go, too. It logs the table of
// resources. It skips kernels whose names begin with "test_".
//
// It needs clang-19, and clang-22 for gfx950; without one of them what it compiles is
// skipped, or fails if DRAFTHEAD_REQUIRE_COMPILER is 1.
func CompileOffline(t *testing.T, structs ...any) {
	if RaceDetector {
		t.Skip("compilers run, and nothing of Go's: there are no races to find")
	}
	sources := map[string][]*registry.Kernel{}
	for _, k := range registry.Kernels() {
		if strings.HasPrefix(k.Name, "test_") {
			continue
		}
		require.NotEmpty(t, k.Source, "kernel %s has no GPU side", k.Name)
		sources[k.Source] = append(sources[k.Source], k)
	}
	require.NotEmpty(t, sources)
	found := resources{}
	var mu sync.Mutex
	t.Run("compile", func(t *testing.T) {
		for source, kernels := range sources {
			assertions := assertionsOf(source, kernels, structs)
			for _, target := range offline.Targets {
				t.Run(kernels[0].Name+"/"+target.Name, func(t *testing.T) {
					t.Parallel()
					of := compileOffline(t, source, assertions, target)
					for _, k := range kernels {
						r, ok := of[k.Name]
						require.True(t, ok, "no kernel %s", k.Name)
						requireResources(t, k, target, r)
						mu.Lock()
						found.add(k.Name, target, r)
						mu.Unlock()
					}
				})
			}
		}
	})
	t.Log("\n" + found.table())
}

func assertionsOf(source string, kernels []*registry.Kernel, structs []any) string {
	assertions := ""
	for _, s := range structs {
		if of := reflect.TypeOf(s); strings.Contains(source, "struct "+of.Name()) {
			assertions += offline.Layout(of)
		}
	}
	for _, k := range kernels {
		assertions += offline.Layout(k.Args)
	}
	return assertions
}

func requireResources(t *testing.T, k *registry.Kernel, target offline.Target, r offline.Resources) {
	t.Helper()
	require.Equal(t, int(k.Args.Size()), r.ArgsBytes, "%s: bytes of the argument struct", k.Name)
	require.Zero(t, r.Spills, "%s: registers in memory", k.Name)
	require.Zero(t, r.Stack, "%s: bytes of a thread's own memory", k.Name)
	require.LessOrEqual(t, r.FlatLoads, 2*r.GlobalLoads, "%s: loads through pointers of which the compiler does not know that they are to the GPU's memory: see GLOBAL", k.Name)
	require.LessOrEqual(t, r.Shared, mostShared, "%s: bytes of shared memory", k.Name)
	require.LessOrEqual(t, r.Threads, mostThreads, "%s: threads of a block", k.Name)
	threads, _, _ := k.Of.(*hip.Kernel).Declared()
	require.Equal(t, threads, r.Threads, "%s: threads of a block, as Go declares them", k.Name)
	if r.Wave != 0 {
		require.Equal(t, target.Wave, r.Wave, "%s: lanes of a wave", k.Name)
	}
}

// compileOffline returns the resources of a source's kernels, by name.
func compileOffline(t *testing.T, source, assertions string, target offline.Target) map[string]offline.Resources {
	t.Helper()
	assembly, err := offline.Compile(t.Context(), source, assertions, target)
	if errors.Is(err, offline.ErrNoCompiler) {
		need.Absent(t, "COMPILER", fmt.Errorf("kernels are not compiled: %w", err))
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

// resources are those of kernels, by name and target.
type resources map[string]map[offline.Target]offline.Resources

func (f resources) add(kernel string, target offline.Target, r offline.Resources) {
	if f[kernel] == nil {
		f[kernel] = map[offline.Target]offline.Resources{}
	}
	f[kernel][target] = r
}

// table has a line for each kernel: threads and shared bytes of a block, and for each
// target the vector registers of a thread, with those of the matrix unit. PTX does not say.
func (f resources) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "kernel\tthreads\tshared\t")
	for _, target := range offline.Targets {
		fmt.Fprintf(w, "%s\t", target.Name)
	}
	for _, k := range registry.Kernels() {
		threads, shared, registers := 0, 0, ""
		for _, target := range offline.Targets {
			r, ok := f[k.Name][target]
			threads, shared = max(threads, r.Threads), max(shared, r.Shared)
			if ok && !target.PTX() {
				registers += fmt.Sprint(r.VectorRegs + r.MatrixRegs)
			}
			registers += "\t"
		}
		if f[k.Name] != nil {
			fmt.Fprintf(w, "\n%s\t%d\t%d\t%s", k.Name, threads, shared, registers)
		}
	}
	fmt.Fprintln(w)
	w.Flush()
	return b.String()
}
