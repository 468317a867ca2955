package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/synthetic"
)

func runBench(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// quick has every row run about three times.
func quick(args ...string) []string {
	return append([]string{"-time", "1ms", "-prefill", "3,40", "-batch", "1,5", "-commit", "4", "-context", "100,700", "-k", "3"}, args...)
}

func keysOf(t *testing.T, object any) (keys []string) {
	t.Helper()
	require.IsType(t, map[string]any{}, object)
	for key := range object.(map[string]any) {
		keys = append(keys, key)
	}
	return keys
}

func TestJSON(t *testing.T) {
	code, stdout, stderr := runBench(quick("-json")...)
	require.Equal(t, cli.OK, code, stderr)
	require.Empty(t, stderr, "no progress bar in a pipe")
	var raw map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &raw))
	require.Subset(t, keysOf(t, raw), []string{"device", "threads", "ceiling_gbps", "peak_rss_bytes", "load_seconds", "rows"})
	for _, row := range raw["rows"].([]any) {
		require.Subset(t, keysOf(t, row), []string{"work", "rows", "context", "bytes", "seconds", "spread", "gbps", "ratio", "gflops"})
	}

	var got summary
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	require.Equal(t, "cpu", got.Device)
	require.Positive(t, got.Threads)
	require.Positive(t, got.CeilingGBps)
	require.Positive(t, got.LoadSeconds)
	require.Greater(t, got.FirstDraftSeconds, got.LoadSeconds)
	require.Greater(t, got.WeightBytes, int64(2_000_000))
	require.GreaterOrEqual(t, got.PeakRSSBytes, got.PeakHeapBytes)
	type shape struct {
		work             string
		rows, context, k int
	}
	var rows []shape
	for _, r := range got.Rows {
		rows = append(rows, shape{r.Work, r.Rows, r.Context, r.K})
		require.Positive(t, r.Bytes)
		require.Positive(t, r.Seconds)
		require.Positive(t, r.GBps)
		require.Positive(t, r.Ratio)
		require.Positive(t, r.GFlops)
		require.Positive(t, r.Ceiling)
		require.GreaterOrEqual(t, r.Spread, 0.0)
		require.Positive(t, r.Runs)
		require.True(t, r.Experts >= 2 && r.Experts <= 8, "%g experts", r.Experts)
	}
	require.Equal(t, []shape{
		{"step", 1, 100, 1}, {"step, int8 lm_head", 1, 100, 1}, {"step, 64 draft tokens", 1, 100, 1},
		{"step, int8 lm_head, 64 draft tokens", 1, 100, 1}, {"chain", 1, 100, 3}, {"batch", 1, 100, 1}, {"batch", 5, 100, 1},
		{"commit", 4, 100, 1}, {"prefill", 3, 0, 0}, {"prefill", 40, 0, 0}, {"long context", 1, 700, 1},
	}, rows)
	require.Equal(t, 2.0, got.Rows[0].Experts)
	require.InEpsilon(t, 3*got.Rows[0].Bytes, got.Rows[4].Bytes, 0.01, "a chain of 3 is about 3 steps")
}

// TestTableIsAligned: a table fits a terminal, and has all that a row has with -wide.
func TestTableIsAligned(t *testing.T) {
	for _, wide := range []bool{false, true} {
		args, header := quick(), "GB/s  ceiling"
		if wide {
			args, header = append(args, "-wide"), "GFLOP/s  runs"
		}
		code, stdout, stderr := runBench(args...)
		require.Equal(t, cli.OK, code, stderr)
		lines := strings.Split(stdout, "\n")
		first := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, header) })
		require.Positive(t, first, stdout)
		width := utf8.RuneCountInString(lines[first])
		for i := range 11 {
			require.Equal(t, width, utf8.RuneCountInString(lines[first+1+i]), "%q", lines[first+1+i])
		}
		require.Empty(t, lines[first+12])
		for _, text := range []string{"chain of 3", "read ceiling", "load", "weights"} {
			require.Contains(t, stdout, text)
		}
		if !wide {
			for _, line := range lines {
				require.LessOrEqual(t, utf8.RuneCountInString(line), columns, "%q", line)
			}
		}
	}
}

func TestCheckpointFolder(t *testing.T) {
	dir := t.TempDir()
	c, err := synthetic.New(synthetic.Nano(), synthetic.Options{})
	require.NoError(t, err)
	for i := range c.Files() {
		f := &c.Files()[i]
		data := make([]byte, f.Size())
		_, err := f.ReadAt(data, 0)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, f.Name), data, 0o600))
	}
	code, stdout, stderr := runBench("-checkpoint", dir, "-time", "1ms", "-batch", "2", "-prefill", "2", "-k", "1", "-cheap=false", "-json")
	require.Equal(t, cli.OK, code, stderr)
	var got summary
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	require.Equal(t, dir, got.Checkpoint)
	var works []string
	for _, r := range got.Rows {
		works = append(works, r.Work)
	}
	require.Equal(t, []string{"step", "batch", "commit", "commit", "prefill", "long context"}, works, "k = 1 is not a chain")
	require.Equal(t, 256, got.Rows[0].Context, "a quarter of the positions, as there are no 65536")
	require.Equal(t, 1023, got.Rows[5].Context)
}

// TestFourBitExperts: a step reads routed experts in four bits, and what else it reads is the
// same as with mxfp8. An expert of shape nano has 3·256·256 weights, of which 2 are picked.
func TestFourBitExperts(t *testing.T) {
	bytes := make(map[string]int64)
	for _, format := range []string{"mxfp8", "mxfp4", "nvfp4"} {
		code, stdout, stderr := runBench("-format", format, "-time", "1ms", "-batch", "2", "-commit", "5", "-prefill", "3", "-context", "20", "-k", "2", "-cheap=false", "-json")
		require.Equal(t, cli.OK, code, stderr)
		var got summary
		require.NoError(t, json.Unmarshal([]byte(stdout), &got))
		require.Equal(t, format != "mxfp8", strings.HasSuffix(got.Checkpoint, strings.ToUpper(format)), got.Checkpoint)
		bytes[format] = got.Rows[0].Bytes
	}
	const picked = 2 * 3 * 256 * 256
	require.EqualValues(t, picked/2, bytes["mxfp8"]-bytes["mxfp4"])
	require.EqualValues(t, picked/32, bytes["nvfp4"]-bytes["mxfp4"])
}

func TestReferenceDevice(t *testing.T) {
	code, stdout, stderr := runBench("-device", "reference", "-time", "1ms", "-batch", "1", "-commit", "2", "-prefill", "2", "-context", "8", "-json")
	require.Equal(t, cli.OK, code, stderr)
	var got summary
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	require.Equal(t, 1, got.Threads)
	require.Positive(t, got.CeilingGBps)
}

func TestRefuses(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent")
	for _, c := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"help", []string{"-h"}, cli.OK, []string{"exit status", "long context", "-context list", "(default: 1,4,16)", "(default: 1024,65536, less where the head has fewer positions)"}},
		{"unknown flag", []string{"-wrong"}, cli.Usage, []string{"bench: flag provided but not defined: -wrong; run bench -h for its flags"}},
		{"everything wrong", []string{"-shape", "m4", "-k", "65", "-time", "0s", "x"}, cli.Usage,
			[]string{"want m3 or nano", "-k is 65", "-time is 0s", `"x"`}},
		{"two sources", []string{"-shape", "nano", "-checkpoint", absent}, cli.Usage, []string{"not both"}},
		{"format of a checkpoint", []string{"-format", "mxfp4", "-checkpoint", absent}, cli.Usage, []string{"-format is for a -shape"}},
		{"unknown format", []string{"-format", "fp5"}, cli.Usage, []string{`-format: "fp5": want mxfp8, bf16, mxfp4 or nvfp4`}},
		{"experts of a checkpoint", []string{"-experts", "2", "-checkpoint", absent}, cli.Usage, []string{"-experts is for a -shape"}},
		{"too many experts", []string{"-experts", "9"}, cli.Usage, []string{"want 1 to 8"}},
		{"no list", []string{"-batch", "1,,4"}, cli.Usage, []string{`-batch: ""`}},
		{"zero rows", []string{"-prefill", "0"}, cli.Usage, []string{`"0": want numbers from 1`}},
		{"beyond the positions", []string{"-context", "100,1024"}, cli.Usage, []string{"-context is 100,1024, and the head has 1024 positions: want at most 1020 for the first, after which -k 4 has to fit, and 1023 for the others; run "}},
		{"beyond them with a chain", []string{"-context", "1021"}, cli.Usage, []string{"-context is 1021, and the head has 1024 positions"}},
		{"beyond them without a chain", []string{"-k", "1", "-context", "1024,65536"}, cli.Usage, []string{"-context is 1024,65536, and the head has 1024 positions: want at most 1023; run "}},
		{"commit beyond them", []string{"-context", "500", "-commit", "4,525"}, cli.Usage, []string{"-commit is 4,525, and the head has 1024 positions: want at most 524 after the first -context of 500; run "}},

		{"prefill beyond the positions", []string{"-prefill", "1025"}, cli.Usage, []string{"-prefill is 1025, and the head has 1024 positions"}},
		{"ranks", []string{"-tp", "0", "-ep", "65"}, cli.Usage, []string{"-tp is 0, want 1 to 64", "-ep is 65, want 1 to 64"}},
		{"kernels of ranks", []string{"-tp", "2", "-kernels"}, cli.Usage, []string{"-kernels and -products are for one device"}},
		{"ranks that do not divide", []string{"-tp", "3"}, cli.Failed, []string{"TensorParallel.Size is 3", "a divisor of"}},
		{"no checkpoint", []string{"-checkpoint", absent}, cli.Failed, []string{absent + ": no such file or directory; want a folder with config.json"}},
		{"no device", []string{"-device", "gpu"}, cli.Usage, []string{"want cpu[:bf16x2|bf16], reference or hip[:n]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := runBench(c.args...)
			require.Equal(t, c.code, code, stderr)
			require.Empty(t, stdout)
			for _, text := range c.says {
				require.Contains(t, strings.Join(strings.Fields(stderr), " "), text)
			}
			if strings.Contains(stderr, "the head has 1024 positions") {
				require.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
			}
		})
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var stderr bytes.Buffer
	require.Equal(t, cli.Failed, run(ctx, nil, &bytes.Buffer{}, &stderr))
	require.Equal(t, "bench: interrupted\n", stderr.String())
}

// TestProducts: rows of the matrices by themselves, whose bytes are theirs.
func TestProducts(t *testing.T) {
	code, stdout, stderr := runBench("-json", "-products", "-cheap=false", "-time", "1ms", "-batch", "1", "-commit", "2", "-prefill", "1", "-k", "1", "-context", "8")
	require.Equal(t, cli.OK, code, stderr)
	var got summary
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	const h, i, v = 256, 256, 256 // of nano
	for _, want := range []struct {
		work    string
		rows    []int
		bytes   int64
		weights float64
	}{
		{"eh_proj 256×512 MXFP8", []int{1, 4, 16, 512}, 2 * h * h * 33 / 32, 2 * h * h},
		{"lm_head 256×256 BF16", []int{1, 4, 16}, 2 * v * h, v * h},
		{"2 of 8 experts", []int{1, 4, 16}, 2 * 3 * h * i * 33 / 32, 2 * 3 * h * i},
	} {
		var rows []int
		for _, r := range got.Rows {
			if r.Work != want.work {
				continue
			}
			rows = append(rows, r.Rows)
			require.Equal(t, want.bytes, r.Bytes, r.Work)
			require.Positive(t, r.Ratio, r.Work)
			// Two medians over the same runs: their quotient does not depend on how long a run took.
			require.InEpsilon(t, 2*float64(r.Rows)*want.weights/float64(want.bytes), r.GFlops/r.GBps, 1e-9, r.Work)
		}
		require.Equal(t, want.rows, rows, want.work)
	}
}

// TestRanks: several ranks measure the same works together, and what they exchange.
func TestRanks(t *testing.T) {
	for _, c := range []struct {
		tp, ep int
		flags  []string
	}{{2, 1, []string{"-tp", "2"}}, {1, 2, []string{"-ep", "2"}}, {2, 2, []string{"-tp", "2", "-ep", "2"}}} {
		code, stdout, stderr := runBench(append(c.flags, "-shape", "nano", "-time", "1ms", "-batch", "2", "-commit", "5", "-prefill", "3", "-context", "20", "-k", "2", "-json")...)
		require.Equal(t, cli.OK, code, stderr)
		var out summary
		require.NoError(t, json.Unmarshal([]byte(stdout), &out))
		require.Equal(t, [2]int{c.tp, c.ep}, [2]int{out.TensorParallel, out.ExpertParallel})
		for _, r := range out.Rows {
			require.Empty(t, r.Error, r.Work)
			require.Positive(t, r.Seconds, r.Work)
			if r.Bytes == 0 || r.ExchangeSeconds == 0 && !strings.Contains(r.Work, ",") {
				t.Errorf("%s: %d bytes, exchange %v s", r.Work, r.Bytes, r.ExchangeSeconds)
			}
		}
	}
}
