package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/plot"
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

func TestDeviceChart(t *testing.T) {
	one, two, four, dealt := runOf(1, 1, 0.004, 0.008), runOf(2, 1, 0.002, 0.005), runOf(4, 1, 0.001, 0.004), runOf(1, 2, 0.003, 0.006)
	require.Equal(t, []plot.Curve{
		{Name: "step", Points: []plot.Point{{X: 1, Y: 4}, {X: 2, Y: 2}, {X: 4, Y: 1}}},
		{Name: "floor of a step", Dashed: true, Points: []plot.Point{{X: 1, Y: 1}, {X: 2, Y: 0.5}, {X: 4, Y: 0.25}}},
		{Name: "batch of 16", Points: []plot.Point{{X: 1, Y: 8}, {X: 2, Y: 5}, {X: 4, Y: 4}}},
		{Name: "step, -ep", Points: []plot.Point{{X: 1, Y: 4}, {X: 2, Y: 3}}},
		{Name: "batch of 16, -ep", Points: []plot.Point{{X: 1, Y: 8}, {X: 2, Y: 6}}},
	}, inOrder(deviceChart([]*summary{four, one, dealt, two}).Curves))
	require.Len(t, deviceChart([]*summary{one}).Curves, 3, "one device has no layout")
}

// inOrder puts those without a layout first.
func inOrder(curves []plot.Curve) (ordered []plot.Curve) {
	for _, with := range []bool{false, true} {
		for _, c := range curves {
			if strings.Contains(c.Name, ", -") == with {
				ordered = append(ordered, c)
			}
		}
	}
	return ordered
}

func TestContextChart(t *testing.T) {
	one, other := runOf(1, 1, 0.004, 0.008), runOf(1, 1, 0.001, 0.008)
	one.Rows[0].Context, other.Rows[0].Context, other.DeviceName = 1024, 1024, "CPU"
	one.Rows = append(one.Rows, row{Work: "long context", Context: 65536, Seconds: 0.005}, row{Work: "long context", Context: 131072, Error: "no room"})
	require.Equal(t, []plot.Curve{
		{Name: "GPU <1>", Points: []plot.Point{{X: 1024, Y: 4}, {X: 65536, Y: 5}}},
		{Name: "CPU", Points: []plot.Point{{X: 1024, Y: 1}}},
	}, contextChart([]*summary{one, other}).Curves)
	require.Equal(t, []string{"64k", "1020", "512k"}, []string{positions(65536), positions(1020), positions(524288)})
}

// TestDraftChart: the speedup is tokens a step ÷ (1 + k · draft ÷ target).
func TestDraftChart(t *testing.T) {
	require.Equal(t, []plot.Curve{
		{Name: "tokens a step", Points: []plot.Point{{X: 1, Y: 2}, {X: 5, Y: 4}}},
		{Name: "speedup, draft 2 % of target", Dashed: true, Points: []plot.Point{{X: 1, Y: 2 / 1.02}, {X: 5, Y: 4 / 1.1}}},
		{Name: "speedup, draft 5 % of target", Dashed: true, Points: []plot.Point{{X: 1, Y: 2 / 1.05}, {X: 5, Y: 4 / 1.25}}},
		{Name: "speedup, draft 10 % of target", Dashed: true, Points: []plot.Point{{X: 1, Y: 2 / 1.1}, {X: 5, Y: 4 / 1.5}}},
	}, draftChart([]*plotted{{K: 5, MeanTokensPerStep: 4}, {K: 1, MeanTokensPerStep: 2}}).Curves)
}

// TestPlot: -plot draws runs of both programs and the run that it measures, and says what is
// wrong with a file.
func TestPlot(t *testing.T) {
	svg := filepath.Join(t.TempDir(), "picture.svg")
	plotted := func(args ...string) (code int, stderr string) {
		var out, errs bytes.Buffer
		code = run(t.Context(), append([]string{"-plot", svg}, args...), &out, &errs)
		require.Empty(t, out.String())
		return code, errs.String()
	}
	drawn := func() string {
		text, err := os.ReadFile(svg)
		require.NoError(t, err)
		return string(text)
	}
	code, stderr := plotted(written(t, runOf(1, 1, 0.00116, 0.00216)), written(t, runOf(2, 1, 0.00074, 0.0014)), written(t, runOf(2, 2, 0.0005, 0.001)))
	require.Equal(t, cli.OK, code, stderr)
	for _, words := range []string{"GPU &lt;1&gt;", "step: 0.740", "batch of 16: 1.40", "floor of a step: 0.500", "step, -tp × -ep: 0.500"} {
		require.Contains(t, drawn(), words)
	}

	drafts := filepath.Join(t.TempDir(), "draft.json")
	require.NoError(t, os.WriteFile(drafts, []byte(`{"k": 4, "tp": 1, "ep": 1, "mean_tokens_per_step": 4.09}`), 0o600))
	code, stderr = plotted(drafts)
	require.Equal(t, cli.OK, code, stderr)
	require.Contains(t, drawn(), "tokens a step: 4.09")

	saved := filepath.Join(t.TempDir(), "run.json")
	code = run(t.Context(), []string{"-time", "1ms", "-batch", "2", "-commit", "2", "-prefill", "2", "-context", "8", "-cheap=false", "-out", saved, "-plot", svg}, io.Discard, io.Discard)
	require.Equal(t, cli.OK, code)
	measured := drawn()
	require.Contains(t, measured, "A draft step, in ms")
	code, stderr = plotted(saved)
	require.Equal(t, cli.OK, code, stderr)
	require.Equal(t, measured, drawn())

	broken := filepath.Join(t.TempDir(), "broken.json")
	require.NoError(t, os.WriteFile(broken, []byte("{"), 0o600))
	for says, args := range map[string][]string{
		"want what bench -json or draft -json prints": {broken},
		"broken.json.absent":                          {broken + ".absent"},
		"tp is 0 and ep is 1, want":                   {written(t, &summary{ExpertParallel: 1})},
		"no run has a step or a batch, w":             {written(t, &summary{TensorParallel: 1, ExpertParallel: 1})},
		"got runs of bench and of draft":              {saved, drafts},
	} {
		code, stderr := plotted(args...)
		require.Equal(t, cli.Failed, code, stderr)
		require.Contains(t, stderr, says)
	}
}

// TestReadmePictures: the README's pictures are what -plot draws of the runs in testdata.
func TestReadmePictures(t *testing.T) {
	for name, runs := range map[string]string{"step.svg": "step-*.json", "drafts.svg": "draft-*.json"} {
		files, err := filepath.Glob(filepath.Join("testdata", "readme", runs))
		require.NoError(t, err)
		svg := filepath.Join(t.TempDir(), name)
		code := run(t.Context(), append([]string{"-plot", svg}, files...), io.Discard, os.Stderr)
		require.Equal(t, cli.OK, code)
		want, err := os.ReadFile(svg)
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join("..", "..", ".github", "images", name))
		require.NoError(t, err)
		require.Equal(t, string(want), strings.ReplaceAll(string(got), "\r\n", "\n"), "see testdata/readme/README.md")
	}
}

// TestReadmeStepsAreInTheDocs: the docs of the hardware have every time that the README's
// picture of steps is drawn from.
func TestReadmeStepsAreInTheDocs(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "readme", "step-*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		run := &summary{}
		require.NoError(t, json.Unmarshal(text, run))
		page := map[string]string{"cpu": "CPU.md", "hip": "HARDWARE.md"}[run.Device]
		docs, err := os.ReadFile(filepath.Join("..", "..", "hip", page))
		require.NoError(t, err)
		drawn := 0
		for _, r := range run.Rows {
			if r.Work != "step" && r.Work != "long context" {
				continue
			}
			drawn++
			written := fmt.Sprintf("%.3g|%.2f|%.3f", 1e3*r.Seconds, 1e3*r.Seconds, 1e3*r.Seconds)
			require.Regexp(t, `(^|[^\d.])(`+strings.ReplaceAll(written, ".", `\.`)+`)([^\d.]|\.\s|$)`, string(docs), "%s: %s after %d positions", name, r.Work, r.Context)
		}
		require.Positive(t, drawn, name)
	}
}
