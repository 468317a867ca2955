package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

func TestWrongUsage(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"no folder":            {nil, "want one folder"},
		"two folders":          {[]string{"a", "b"}, "want one folder"},
		"wrong flag last":      {[]string{"a", "-jsn"}, "-jsn"},
		"unknown flag":         {[]string{"-verbose", "a"}, "-verbose"},
		"share without a size": {[]string{"-tp", "1", "a"}, "RANK/SIZE"},
		"share of none":        {[]string{"-ep", "0/0", "a"}, "RANK/SIZE"},
		"rank too large":       {[]string{"-tp", "2/2", "a"}, "RANK/SIZE"},
		"negative rank":        {[]string{"-ep", "-1/2", "a"}, "RANK/SIZE"},
		"three numbers":        {[]string{"-tp", "0/2/4", "a"}, "RANK/SIZE"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := inspectText(t, test.args...)
			require.Equal(t, cli.Usage, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, test.says)
			require.Regexp(t, "^inspect: .*; run inspect -h for its flags\n$", stderr)
		})
	}
}

// TestFlagAfterTheFolder: flags and the folder come in any order.
func TestFlagAfterTheFolder(t *testing.T) {
	dir := t.TempDir()
	_, before, _ := inspectText(t, "-json", dir)
	_, after, _ := inspectText(t, dir, "-json")
	require.Equal(t, before, after)
	require.Contains(t, after, `"ok": false`)
}

func TestHelp(t *testing.T) {
	code, stdout, stderr := inspectText(t, "-h")
	require.Equal(t, cli.OK, code)
	require.Empty(t, stdout)
	require.NotContains(t, stderr, "every problem")
	for _, text := range []string{"usage: inspect", "exit status", "if there are none all problems of the tensors", "-json", "-tp RANK/SIZE", "-ep RANK/SIZE"} {
		require.Contains(t, strings.Join(strings.Fields(stderr), " "), text)
	}
}

func TestFolderThatIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model.safetensors")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	code, stdout, _ := inspectText(t, file)
	require.Equal(t, cli.Failed, code)
	require.Contains(t, stdout, "want the folder that holds this file")

	code, object := inspectJSON(t, filepath.Join(filepath.Dir(file), "absent"))
	require.Equal(t, cli.Failed, code)
	require.Equal(t, false, object["ok"])
	require.Len(t, object["problems"], 1)
	require.Equal(t, map[string]any{}, object["formats"])
}

// TestEmptyFolder: the config and the weights are both missed, in one run.
func TestEmptyFolder(t *testing.T) {
	code, stdout, _ := inspectText(t, t.TempDir())
	require.Equal(t, cli.Failed, code)
	require.Contains(t, stdout, "config.json")
	require.Contains(t, stdout, "no weights")
	require.Contains(t, stdout, "does not load: 2 problems")
}

// TestBackupBesideTheModel: a copy of the weights is one problem, not one a tensor.
func TestBackupBesideTheModel(t *testing.T) {
	dir := t.TempDir()
	whole := hiptest.Shared(t, "golden", "tiny-mxfp8")
	for to, from := range map[string]string{"config.json": "config.json", "model.safetensors": "model.safetensors", "backup.safetensors": "model.safetensors"} {
		data, err := os.ReadFile(filepath.Join(whole, from))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, to), data, 0o600))
	}
	code, object := inspectJSON(t, dir)
	require.Equal(t, cli.Failed, code)
	require.Len(t, object["problems"], 1)
	p := object["problems"].([]any)[0].(map[string]any)
	require.Contains(t, p["problem"], "file repeats the tensors of another: got 57 of them in backup.safetensors, want one of the files")
	require.Contains(t, p["problem"], p["tensor"], "the first of them")
}

func TestWriteError(t *testing.T) {
	var stderr failing
	require.Equal(t, cli.Failed, run(t.Context(), []string{t.TempDir()}, failing{}, &stderr))
	require.Equal(t, cli.Failed, run(t.Context(), []string{"-json", t.TempDir()}, failing{}, &stderr))
}

// failing is an output that takes nothing.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, fs.ErrClosed }

func TestProblemsOf(t *testing.T) {
	audit := errors.Join(
		&weights.Problem{Tensor: "a.weight", Rule: weights.ErrMissing}, &weights.Problem{Tensor: "b.weight", Rule: errors.New("wrong shape"), Got: "[1]", Want: "[2]"},
	)
	_, configErr := mtp.ReadConfig(fstest.MapFS{"config.json": {Data: []byte(`{"model_type": "minimax_m3_vl", "text_config": null}`)}})
	err := errors.Join(
		configErr,
		errors.Join(&safetensors.FormatError{File: "x.safetensors", Tensor: "c", Rule: errors.New("hole in the data before the tensor")}, audit),
		&safetensors.FormatError{File: "y.safetensors", Rule: errors.New("missing shard")},
		fs.ErrPermission,
	)
	require.Equal(t, []problem{
		{"text_config", "mtp: config.json: text_config: missing key: got nothing, want an object"},
		{"c", `safetensors: x.safetensors: tensor "c": hole in the data before the tensor`},
		{"a.weight", "weights: a.weight: tensor is missing"},
		{"b.weight", "weights: b.weight: wrong shape: got [1], want [2]"},
		{"", "safetensors: y.safetensors: missing shard"},
		{"", "permission denied"},
	}, problemsOf(err))
	require.Equal(t, []problem{}, problemsOf(nil))
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	require.Equal(t, cli.Failed, run(ctx, []string{"-weights", filepath.Join("..", "m3tiny", "checkpoint")}, &stdout, &stderr))
	require.Equal(t, "inspect: interrupted\n", stderr.String())
	require.Empty(t, stdout.String())
}
