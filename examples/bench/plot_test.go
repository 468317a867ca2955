package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
)

// written writes a run's -json output to a file.
func written(t *testing.T, s *summary) string {
	t.Helper()
	text, err := json.Marshal(s)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), fmt.Sprintf("%d-%d.json", s.TensorParallel, s.ExpertParallel))
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

func runOf(tp, ep int, step, batch float64) *summary {
	return &summary{DeviceName: "GPU <1>", TensorParallel: tp, ExpertParallel: ep, Rows: []row{
		{Work: "step", Rows: 1, Seconds: step, Bytes: 2e9 / int64(tp), Ceiling: 2000},
		{Work: "batch", Rows: 4, Seconds: batch / 2},
		{Work: "batch", Rows: 16, Seconds: batch},
		{Work: "step, int8 lm_head", Rows: 1, Seconds: 9},
		{Work: "batch", Rows: 64, Error: "no room"},
	}}
}

func TestCurves(t *testing.T) {
	one, two, four, dealt := runOf(1, 1, 0.004, 0.008), runOf(2, 1, 0.002, 0.005), runOf(4, 1, 0.001, 0.004), runOf(1, 2, 0.003, 0.006)
	require.Equal(t, []curve{
		{"step", false, []point{{1, 4}, {2, 2}, {4, 1}}},
		{"floor of a step", true, []point{{1, 1}, {2, 0.5}, {4, 0.25}}},
		{"batch of 16", false, []point{{1, 8}, {2, 5}, {4, 4}}},
		{"step, -ep", false, []point{{1, 4}, {2, 3}}},
		{"batch of 16, -ep", false, []point{{1, 8}, {2, 6}}},
	}, curvesInOrder(curvesOf([]*summary{four, one, dealt, two})))
	require.Len(t, curvesOf([]*summary{one}), 3, "one device has no layout")
}

// curvesInOrder puts those without a layout first.
func curvesInOrder(curves []curve) (ordered []curve) {
	for _, with := range []bool{false, true} {
		for _, c := range curves {
			if strings.Contains(c.name, ", -") == with {
				ordered = append(ordered, c)
			}
		}
	}
	return ordered
}

// TestPlot: -plot prints one well-formed picture with every curve, and says what is wrong
// with a file.
func TestPlot(t *testing.T) {
	plotted := func(args ...string) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		code = run(t.Context(), append([]string{"-plot"}, args...), &out, &errs)
		return code, out.String(), errs.String()
	}
	code, svg, stderr := plotted(written(t, runOf(1, 1, 0.00116, 0.00216)), written(t, runOf(2, 1, 0.00074, 0.0014)), written(t, runOf(2, 2, 0.0005, 0.001)))
	require.Equal(t, cli.OK, code, stderr)
	tokens, texts := xml.NewDecoder(strings.NewReader(svg)), 0
	for {
		token, err := tokens.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "text" {
			texts++
		}
	}
	require.Greater(t, texts, 10)
	for _, words := range []string{"GPU &lt;1&gt;", "step: 0.740", "batch of 16: 1.40", "floor of a step: 0.500", "step, -tp × -ep: 0.500", "stroke-dasharray"} {
		require.Contains(t, svg, words)
	}

	saved := filepath.Join(t.TempDir(), "run.json")
	code = run(t.Context(), []string{"-time", "1ms", "-batch", "2", "-commit", "2", "-prefill", "2", "-context", "8", "-cheap=false", "-out", saved}, io.Discard, io.Discard)
	require.Equal(t, cli.OK, code)
	code, svg, stderr = plotted(saved)
	require.Equal(t, cli.OK, code, stderr)
	require.Contains(t, svg, "batch of 2: ")

	broken := filepath.Join(t.TempDir(), "broken.json")
	require.NoError(t, os.WriteFile(broken, []byte("{"), 0o600))
	for says, c := range map[string]struct {
		code int
		args []string
	}{
		"-plot wants the files":              {cli.Usage, nil},
		"want what bench -json prints":       {cli.Failed, []string{broken}},
		"broken.json.absent":                 {cli.Failed, []string{broken + ".absent"}},
		"tp is 0 and ep is 1, want":          {cli.Failed, []string{written(t, &summary{ExpertParallel: 1})}},
		"no run has a step or a batch, of w": {cli.Failed, []string{written(t, &summary{TensorParallel: 1, ExpertParallel: 1})}},
	} {
		code, _, stderr := plotted(c.args...)
		require.Equal(t, c.code, code, stderr)
		require.Contains(t, stderr, says)
	}
}
