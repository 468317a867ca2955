package reference_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nlpodyssey/spago/mat"
	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/mtp/reference"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// stageBound is the largest difference allowed, relative to the largest
// magnitude of a stage: the stored values are float64 results rounded to float32.
const stageBound = 1e-7

var goldenCases = []string{
	"tiny-f32", "tiny-bf16-bundled-sharded", "tiny-mxfp8", "tiny-mxfp8-e8m0",
	"tiny-init1-local2", "tiny-init3-local2", "tiny-local0", "tiny-3modules", "slim-real",
	"tiny-fp8-cache", "tiny-fp8-cache-unscaled", "tiny-fp8-index",
	"tiny-mxfp4", "tiny-mxfp4-quark", "tiny-nvfp4", "tiny-nvfp4-modelopt",
}

// caseFolder returns the folder of a case: some do not come with the repository.
func caseFolder(t *testing.T, name string) string {
	t.Helper()
	switch name {
	case "tiny-fp8-cache", "tiny-fp8-cache-unscaled", "tiny-mxfp4-quark", "tiny-nvfp4":
		return hiptest.Shared(t, "golden-next", name)
	}
	return hiptest.Shared(t, "golden", name)
}

// cacheFormat is how the case keeps keys and values.
func (g golden) cacheFormat() attention.CacheFormat {
	switch said := g.file.Metadata(); {
	case said["cache"] == "":
		return attention.CacheF32
	case said["index_cache"] == "fp8":
		return attention.CacheFP8Index
	}
	return attention.CacheFP8
}

// golden is an open golden.safetensors.
type golden struct {
	t    *testing.T
	file *safetensors.File
}

func openGolden(t *testing.T, dir string) golden {
	t.Helper()
	file, err := safetensors.Open(os.DirFS(dir), "golden.safetensors")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	return golden{t, file}
}

func (g golden) tensor(name string, dtype safetensors.Dtype) *safetensors.Tensor {
	g.t.Helper()
	tensor, ok := g.file.Tensor(name)
	require.True(g.t, ok, "no %s", name)
	require.Equal(g.t, dtype, tensor.Dtype, name)
	return tensor
}

// values reads a tensor whose elements are of type Stored, as numbers of type T.
func values[Stored, T float32 | float64 | int | int32 | int64](t *testing.T, tensor *safetensors.Tensor) []T {
	t.Helper()
	stored := make([]Stored, int(tensor.Size())/binary.Size(*new(Stored)))
	require.NoError(t, binary.Read(io.NewSectionReader(tensor, 0, tensor.Size()), binary.LittleEndian, stored))
	out := make([]T, len(stored))
	for i, v := range stored {
		out[i] = T(v)
	}
	return out
}

func (g golden) floats(name string) []float64 {
	g.t.Helper()
	return values[float32, float64](g.t, g.tensor(name, safetensors.F32))
}

// matrix returns a tensor [rows, …] with its trailing dimensions flattened.
func (g golden) matrix(name string) mat.Matrix {
	g.t.Helper()
	floats, rows := g.floats(name), g.tensor(name, safetensors.F32).Shape[0]
	return mat.NewDense[float64](mat.WithShape(rows, len(floats)/rows), mat.WithBacking(floats))
}

func (g golden) ints(name string) []int {
	g.t.Helper()
	return values[int64, int](g.t, g.tensor(name, "I64"))
}

// ids returns block or expert ids, as the oracle has such stages.
func (g golden) ids(name string) []float64 {
	g.t.Helper()
	return values[int32, float64](g.t, g.tensor(name, "I32"))
}

// requireClose compares a stage with its golden tensor; infinities must be equal.
func (g golden) requireClose(name string, got []float64) {
	g.t.Helper()
	want := g.floats(name)
	require.Len(g.t, got, len(want), name)
	largest, worst := 0.0, 0.0
	for i, w := range want {
		if math.IsInf(w, 0) || math.IsInf(got[i], 0) {
			require.Equal(g.t, w, got[i], "%s[%d]", name, i)
			continue
		}
		largest = max(largest, math.Abs(w))
		diff := math.Abs(w - got[i])
		require.False(g.t, math.IsNaN(diff), "%s[%d] is NaN", name, i)
		worst = max(worst, diff)
	}
	require.LessOrEqual(g.t, worst, stageBound*largest, "%s: largest magnitude %g", name, largest)
}

// casesHere are the golden cases, for the race detector those of a few rows.
func casesHere() []string {
	if hiptest.RaceDetector {
		return slices.DeleteFunc(slices.Clone(goldenCases), func(name string) bool { return name == "slim-real" })
	}
	return goldenCases
}

func TestForwardGolden(t *testing.T) {
	for _, name := range casesHere() {
		t.Run(name, func(t *testing.T) {
			dir := caseFolder(t, name)
			head, err := reference.Load(os.DirFS(dir))
			require.NoError(t, err)
			g := openGolden(t, dir)
			head.CacheFormat = g.cacheFormat()
			rows := g.ints("rows")
			for module := range head.Config.NumMTPModules {
				s, err := head.Forward(module, g.ints("in.tokens"), g.ints("in.positions"), g.matrix("in.target_hidden"))
				require.NoError(t, err)
				requireStages(g, fmt.Sprintf("l%d.", module), s, rows)
			}
		})
	}
}

// ofAllRows are the stages that are stored for every row, not for some.
var ofAllRows = []string{"selected_blocks", "select_margin", "expert_ids", "router_margin"}

// requireStages compares all stages, and wants every one that is stored. rows are
// those that most are stored for.
func requireStages(g golden, prefix string, s map[string]mat.Matrix, rows []int) {
	g.t.Helper()
	var stored []string
	for _, tensor := range g.file.Tensors() {
		if stage, ok := strings.CutPrefix(tensor.Name, prefix); ok && tensor.Dtype != safetensors.F8E4M3 { // codes, see verify
			stored = append(stored, stage)
		}
	}
	require.ElementsMatch(g.t, stored, slices.Collect(maps.Keys(s)))
	for name, stage := range s {
		got := mat.Data[float64](stage)
		if !slices.Contains(ofAllRows, name) {
			got = rowsOf(stage, rows)
		}
		if name == "selected_blocks" || name == "expert_ids" {
			require.Equal(g.t, g.ids(prefix+name), got, name)
		} else {
			g.requireClose(prefix+name, got)
		}
	}
}

// rowsOf returns the values of the given rows of m.
func rowsOf(m mat.Matrix, rows []int) (values []float64) {
	cols := m.Shape()[1]
	for _, r := range rows {
		values = append(values, mat.Data[float64](m)[r*cols:(r+1)*cols]...)
	}
	return values
}

func TestChainGolden(t *testing.T) {
	for _, name := range casesHere() {
		t.Run(name, func(t *testing.T) {
			dir := caseFolder(t, name)
			head, err := reference.Load(os.DirFS(dir))
			require.NoError(t, err)
			g := openGolden(t, dir)
			head.CacheFormat = g.cacheFormat()
			rules := []mtp.Chain{mtp.ChainFirst, "chain_postnorm"}
			if head.Config.NumMTPModules > 1 {
				rules = append(rules, mtp.ChainModOwn, "chain_mod_prefilled", "chain_mod_every_row", mtp.ChainAligned)
			}
			rounds := map[string]mtp.Chain{"round2": mtp.ChainFirst}
			if name == "tiny-3modules" {
				rules = append(rules, mtp.ChainTarget)
				rounds["round2_target"], rounds["round2_target_rejected"] = mtp.ChainTarget, mtp.ChainTarget
			}
			tokens, hidden := g.ints("in.seq_tokens"), g.matrix("in.target_hidden")
			for _, rule := range rules {
				t.Run(string(rule), func(t *testing.T) {
					requireDrafts(golden{t, g.file}, string(rule), head, tokens, hidden, rule)
				})
			}
			// The verification round is a chain over a prompt that is longer by
			// the accepted drafts and the new token.
			for round, rule := range rounds {
				t.Run(round, func(t *testing.T) {
					g := golden{t, g.file}
					added := g.ints(round + ".in_tokens")
					longer := append(append([]int{}, tokens...), added...)
					both := append(append([]float64{}, mat.Data[float64](hidden)...), mat.Data[float64](g.matrix(round+".in_target_hidden"))...)
					rows := len(longer) - 1
					stacked := mat.NewDense[float64](mat.WithShape(rows, len(both)/rows), mat.WithBacking(both))
					requireDrafts(g, round, head, longer, stacked, rule)

					positions := make([]int, rows)
					for i := range positions {
						positions[i] = i
					}
					last := positions[rows-len(added):]
					require.Equal(t, g.ints(round+".in_positions"), last)
					s, err := head.Forward(0, longer[1:], positions, stacked, last...)
					require.NoError(t, err)
					g.requireClose(round+".rows_hidden", mat.Data[float64](s["hidden"]))
				})
			}
		})
	}
}

func requireDrafts(g golden, name string, head *reference.Head, tokens []int, hidden mat.Matrix, rule mtp.Chain) {
	g.t.Helper()
	ids := g.ints(name + ".ids")
	drafts, err := head.Chain(tokens, hidden, len(ids), rule)
	require.NoError(g.t, err)
	require.Equal(g.t, ids, drafts.IDs)
	if _, ok := g.file.Tensor(name + ".layers"); ok {
		require.Equal(g.t, g.ints(name+".layers"), drafts.Modules())
	}
	g.requireClose(name+".hidden", mat.Data[float64](drafts.Hidden))
	g.requireClose(name+".logits", mat.Data[float64](drafts.Logits))
	var margins []float64 // of the highest logit over the second highest
	vocab := drafts.Logits.Shape()[1]
	for logits := range slices.Chunk(mat.Data[float64](drafts.Logits), vocab) {
		sorted := slices.Sorted(slices.Values(logits))
		margins = append(margins, sorted[vocab-1]-sorted[vocab-2])
	}
	g.requireClose(name+".margin", margins)
}

func TestLoadBroken(t *testing.T) {
	manifest, err := os.ReadFile(filepath.Join(hiptest.Shared(t, "golden", "broken"), "manifest.json"))
	require.NoError(t, err)
	var cases map[string]struct {
		MustFail bool `json:"must_fail"`
	}
	require.NoError(t, json.Unmarshal(manifest, &cases))
	require.NotEmpty(t, cases)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			head, err := reference.Load(os.DirFS(hiptest.Shared(t, "golden", "broken", name)))
			if !c.MustFail {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			require.Nil(t, head)
		})
	}
}
