package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights/safetensors"
)

func runVerify(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// caseFolder returns the case of that name.
func caseFolder(t *testing.T, name string) string {
	t.Helper()
	switch name {
	case "tiny-fp8-cache", "tiny-fp8-cache-unscaled", "tiny-mxfp4-quark", "tiny-nvfp4":
		return hiptest.Shared(t, "golden-next", name)
	}
	return hiptest.Shared(t, "golden", name)
}

// damaged copies a case and changes one value of a golden tensor.
func damaged(t *testing.T, name, tensor string) string {
	t.Helper()
	from, to := caseFolder(t, name), t.TempDir()
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
	file, err := safetensors.Open(os.DirFS(to), "golden.safetensors")
	require.NoError(t, err)
	defer file.Close()
	found, ok := file.Tensor(tensor)
	require.True(t, ok)
	path := filepath.Join(to, "golden.safetensors")
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	raw[found.Offset()+2] ^= 0x40 // of a float its mantissa, of an integer its value
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	return to
}

func TestRunFindsWhatIsWrong(t *testing.T) {
	for _, tensor := range []string{"l0.q", "l0.logits", "l0.hidden", "chain.hidden", "round2.rows_hidden"} {
		code, stdout, _ := runVerify(damaged(t, "tiny-f32", tensor))
		require.Equal(t, cli.Failed, code, tensor)
		require.Contains(t, stdout, "FAILED")
		require.Contains(t, stdout, tensor)
		require.Contains(t, stdout, "over")
	}
}

func TestRunFindsWrongChoices(t *testing.T) {
	for _, tensor := range []string{"l0.expert_ids", "l0.selected_blocks", "chain_postnorm.ids"} {
		code, stdout, _ := runVerify(damaged(t, "tiny-f32", tensor))
		require.Equal(t, cli.Failed, code, tensor)
		require.Contains(t, stdout, "FAILED", tensor)
	}
}

func TestRunJSON(t *testing.T) {
	code, stdout, _ := runVerify("-json", caseFolder(t, "tiny-mxfp8"))
	require.Equal(t, cli.OK, code)
	var got struct {
		Device string
		OK     bool
		Cases  []struct {
			Case   string
			Path   string
			OK     bool
			Stages []map[string]any
		}
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	require.Equal(t, "cpu", got.Device)
	require.True(t, got.OK && got.Cases[0].OK)
	require.Equal(t, "tiny-mxfp8", got.Cases[0].Case)
	require.Equal(t, caseFolder(t, "tiny-mxfp8"), got.Cases[0].Path)
	for _, key := range []string{"name", "max_abs", "max_ref", "bound", "ok"} {
		require.Contains(t, got.Cases[0].Stages[0], key)
	}
}

func TestRunChecksKernels(t *testing.T) {
	code, stdout, stderr := runVerify("-check", caseFolder(t, "tiny-mxfp8"))
	require.Equal(t, cli.OK, code, stderr)
	require.Contains(t, stdout, "ok")
}

func TestRunRefuses(t *testing.T) {
	absent, noCheckpoint := filepath.Join(t.TempDir(), "none"), t.TempDir()
	expected, err := os.ReadFile(filepath.Join(caseFolder(t, "tiny-f32"), "golden.safetensors"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(noCheckpoint, "golden.safetensors"), expected, 0o600))
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{nil, cli.Usage, "verify: want at least one case folder; run verify -h for its flags\n"},
		{[]string{"-wrong", "x"}, cli.Usage, "verify: flag provided but not defined: -wrong; run verify -h for its flags\n"},
		{[]string{"-device", "abacus", "x"}, cli.Usage, "want cpu[:bf16x2|bf16], reference or hip[:n]"},
		{[]string{"-device", "", "x"}, cli.Usage, "want cpu[:bf16x2|bf16], reference or hip[:n]"},
		{[]string{"-device", "hip:999", "x"}, cli.Failed, "no GPU device"},
		{[]string{"-h"}, cli.OK, "exit status"},
		{[]string{"-h"}, cli.OK, "by 1e-5 of"},
		{[]string{"-h"}, cli.OK, "by 2e-3 on a GPU"},
		{[]string{absent}, cli.Failed, "FAILED  " + absent + ": safetensors: open golden.safetensors: "},
		{[]string{noCheckpoint}, cli.Failed, "FAILED  " + noCheckpoint + ": mtp: read config: open config.json: "},
	} {
		code, stdout, stderr := runVerify(c.args...)
		require.Equal(t, c.code, code, "%v", c.args)
		require.Contains(t, stdout+stderr, c.says, "%v", c.args)
	}
}

// TestBounds are what -h says.
func TestBounds(t *testing.T) {
	require.Equal(t, []float64{1e-5, 2e-3}, []float64{hostBound, gpuBound})
}

func TestTiesAreReportedNotHidden(t *testing.T) {
	got := compareInts("ids", []int32{1, 2, 9, 9}, []int32{1, 2, 3, 4}, 2, []float32{1, 1e-6}, 1e-5)
	require.True(t, got.OK)
	require.Equal(t, 2, got.Ties)
	got = compareInts("ids", []int32{1, 9, 3, 4}, []int32{1, 2, 3, 4}, 2, []float32{1, 1e-6}, 1e-5)
	require.False(t, got.OK)
	require.EqualValues(t, 1, got.MaxAbs)
	require.False(t, compareInts("ids", []int32{1}, []int32{1, 2}, 1, nil, 0).OK, "another length")
}

// TestFirstModules: -modules loads the first modules of a case, and refuses a wrong number;
// an outcome fits a terminal but for the folder, and is one line with -wide.
func TestFirstModules(t *testing.T) {
	dir := caseFolder(t, "tiny-f32")
	code, stdout, _ := runVerify("-modules", "1", dir)
	require.Equal(t, cli.OK, code, stdout)
	_, rest, _ := strings.Cut(stdout, "\n")
	require.Regexp(t, `^        \d+ stages and chains, largest error `, rest)
	require.LessOrEqual(t, len(rest), 81)
	_, wide, _ := runVerify("-wide", dir)
	require.Equal(t, 1, strings.Count(wide, "\n"))
	code, stdout, _ = runVerify("-modules", "2", dir)
	require.Equal(t, cli.Failed, code)
	require.Contains(t, stdout, "Failed to load MTP layer 1")
	code, _, stderr := runVerify("-modules", "65", dir)
	require.Equal(t, cli.Usage, code)
	require.Contains(t, stderr, "-modules is 65")
}

// TestRunSmallestCase: a case needs no more than the rows and one stage, as the guide for
// engine authors says; one without a stage, or with
// one that the head does not have, says so.
func TestRunSmallestCase(t *testing.T) {
	from := caseFolder(t, "tiny-f32")
	file, err := safetensors.Open(os.DirFS(from), "golden.safetensors")
	require.NoError(t, err)
	defer file.Close()
	smallest := func(names ...string) string {
		dir := t.TempDir()
		require.NoError(t, os.CopyFS(dir, os.DirFS(from)))
		var tensors []*safetensors.Tensor
		for _, name := range append(names, "in.seq_tokens", "in.tokens", "in.positions", "in.target_hidden", "rows") {
			tensor, ok := file.Tensor(name)
			if !ok { // a name that no stage has
				tensor = safetensors.NewTensor(name, safetensors.F32, []int{1}, bytes.NewReader(make([]byte, 4)))
			}
			tensors = append(tensors, tensor)
		}
		var text bytes.Buffer
		require.NoError(t, safetensors.Write(&text, nil, tensors))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "golden.safetensors"), text.Bytes(), 0o600))
		return dir
	}
	code, stdout, stderr := runVerify("-v", smallest("l0.hidden", "l0.logits"))
	require.Equal(t, cli.OK, code, stderr)
	require.Contains(t, stdout, "l0.hidden")
	require.Contains(t, stdout, "l0.logits")
	code, stdout, _ = runVerify(smallest())
	require.Equal(t, cli.Failed, code)
	require.Contains(t, stdout, "nothing to compare, want a stage")
	code, stdout, _ = runVerify("-wide", smallest("l0.hidden", "l0.hiden"))
	require.Equal(t, cli.Failed, code)
	require.Contains(t, stdout, "golden.safetensors: l0.hiden: the head has no such stage, it has attn_ctx, ")
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	require.Equal(t, cli.Failed, run(ctx, []string{caseFolder(t, "tiny-f32"), caseFolder(t, "tiny-mxfp8")}, &stdout, &stderr))
	require.Equal(t, "verify: interrupted\n", stderr.String(), "once, whatever is left")
	require.Empty(t, stdout.String())
}
