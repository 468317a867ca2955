package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// inspectText runs the program and returns its exit code and both outputs.
func inspectText(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// inspectJSON runs the program with -json and returns its exit code and object.
func inspectJSON(t *testing.T, args ...string) (int, map[string]any) {
	t.Helper()
	code, stdout, stderr := inspectText(t, append([]string{"-json"}, args...)...)
	require.Empty(t, stderr)
	var object map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &object))
	return code, object
}

func TestBrokenCheckpoints(t *testing.T) {
	var cases map[string]struct {
		MustFail      bool   `json:"must_fail"`
		Reason        string `json:"reason"`
		ErrorContains string `json:"error_contains"`
	}
	manifest, err := os.ReadFile(filepath.Join(hiptest.Shared(t, "golden", "broken"), "manifest.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(manifest, &cases))
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		want := cases[name]
		t.Run(name, func(t *testing.T) {
			dir := hiptest.Shared(t, "golden", "broken", name)
			code, stdout, stderr := inspectText(t, dir)
			require.Empty(t, stderr)
			jsonCode, object := inspectJSON(t, dir)
			require.Equal(t, code, jsonCode)
			require.Equal(t, !want.MustFail, object["ok"])
			require.Equal(t, dir, object["path"])
			problems := object["problems"].([]any)
			if !want.MustFail {
				require.Equal(t, cli.OK, code)
				require.Empty(t, problems)
				require.Contains(t, stdout, "\nloads\n")
				return
			}
			require.Equal(t, cli.Failed, code, want.Reason)
			require.Contains(t, stdout, want.ErrorContains)
			require.Contains(t, stdout, "does not load")
			require.NotEmpty(t, problems)
			for _, p := range problems {
				require.Contains(t, p, "tensor")
				require.Contains(t, stdout, p.(map[string]any)["problem"], "text and JSON list the same")
			}
		})
	}
}

func TestGoldenCheckpointsLoad(t *testing.T) {
	for name, want := range map[string]struct {
		modelType string
		modules   float64
		formats   []string
		ignored   []ignored // some of them
	}{
		"tiny-f32": {"minimax_m3_mtp", 1, []string{"F32"}, nil},
		"tiny-bf16-bundled-sharded": {"minimax_m3_vl", 3, []string{"BF16", "F32"}, []ignored{
			{"language_model.model.layers", 7}, {"vision_tower.vision_model", 5},
		}},
		"tiny-mxfp8":          {"minimax_m3_mtp", 1, []string{"BF16", "F32", "MXFP8"}, nil},
		"tiny-mxfp8-e8m0":     {"minimax_m3_mtp", 1, []string{"BF16", "MXFP8"}, nil},
		"tiny-mxfp4":          {"minimax_m3_mtp", 1, []string{"BF16", "F32", "MXFP4"}, nil},
		"tiny-nvfp4-modelopt": {"minimax_m3_mtp", 1, []string{"BF16", "F32", "MXFP8", "NVFP4"}, nil},
		"slim-real":           {"minimax_m3_mtp", 1, []string{"BF16", "F32", "MXFP8"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			code, object := inspectJSON(t, hiptest.Shared(t, "golden", name))
			require.Equal(t, cli.OK, code)
			require.Equal(t, true, object["ok"])
			require.Equal(t, want.modelType, object["model_type"])
			require.Equal(t, want.modules, object["modules"])
			require.Equal(t, []any{}, object["problems"])
			for _, i := range want.ignored {
				require.Contains(t, object["ignored"], map[string]any{"prefix": i.Prefix, "tensors": float64(i.Tensors)})
			}
			formats := object["formats"].(map[string]any)
			require.Equal(t, want.formats, slices.Sorted(maps.Keys(formats)))
			var bytes float64
			for _, n := range formats {
				bytes += n.(float64)
			}
			require.Equal(t, object["bytes"], bytes, "the formats add up")
			require.Positive(t, object["parameters"])

			code, stdout, _ := inspectText(t, hiptest.Shared(t, "golden", name))
			require.Equal(t, cli.OK, code)
			require.Contains(t, stdout, want.modelType)
			require.Contains(t, stdout, "model.layers.0.eh_proj.weight")
			for _, i := range want.ignored {
				require.Contains(t, stdout, "tensors under "+i.Prefix)
			}
		})
	}
}

// TestRanksAddUp: the ranks of a tensor-parallel head hold less than all of it,
// and no less together.
func TestRanksAddUp(t *testing.T) {
	dir := hiptest.Shared(t, "golden", "tiny-mxfp8")
	_, whole := inspectJSON(t, dir)
	for _, flag := range []string{"-tp", "-ep"} {
		var together float64
		for _, rank := range []string{"0/2", "1/2"} {
			code, share := inspectJSON(t, flag, rank, dir)
			require.Equal(t, cli.OK, code)
			require.Less(t, share["parameters"], whole["parameters"], "%s %s", flag, rank)
			together += share["parameters"].(float64)
		}
		require.GreaterOrEqual(t, together, whole["parameters"], flag)
	}
	code, stdout, _ := inspectText(t, "-tp", "0/7", dir)
	require.Equal(t, cli.Failed, code)
	require.Contains(t, stdout, "num_attention_heads")
	require.Contains(t, stdout, "vocab_size", "all that cannot be cut is listed")
}

// TestTablesAreNarrow: a table fits a terminal, and with -wide has a line for each parameter.
func TestTablesAreNarrow(t *testing.T) {
	dir := hiptest.Shared(t, "golden", "tiny-mxfp8")
	_, narrow, _ := inspectText(t, dir)
	table, _, _ := strings.Cut(narrow[len(dir):], "loads")
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "note: ") {
			require.LessOrEqual(t, utf8.RuneCountInString(line), columns+1, "%q", line)
		}
	}
	_, wide, _ := inspectText(t, "-wide", dir)
	require.Regexp(t, `(?m)^model\.layers\.0\.eh_proj\.weight +\[`, wide)
	require.Regexp(t, `(?m)^model\.layers\.0\.eh_proj\.weight\n    \[`, narrow)
	joined := func(text string) string { return strings.Join(strings.Fields(text), "") }
	require.Equal(t, joined(wide), joined(narrow), "nothing is left out")
}
