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
	"github.com/drafthead/drafthead/examples/internal/speculate"
	"github.com/drafthead/drafthead/examples/m3tiny"
)

func runGenerate(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// samplesOf runs the program for its JSON.
func samplesOf(t *testing.T, args ...string) (all []sample) {
	t.Helper()
	code, stdout, stderr := runGenerate(append(args, "-json")...)
	require.Equal(t, cli.OK, code, stderr)
	require.Empty(t, stderr)
	for line := range strings.Lines(stdout) {
		var s sample
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&s))
		all = append(all, s)
	}
	return all
}

// TestSameTextWithoutDrafts: at temperature 0 drafts change how many passes a text takes,
// and nothing else, for any number of them.
func TestSameTextWithoutDrafts(t *testing.T) {
	for _, prompt := range []string{"func (r *Reader) ", "package main\n\nimport (", "// "} {
		alone := samplesOf(t, "-prompt", prompt, "-n", "60", "-no-draft")[0]
		require.Equal(t, 60, alone.TargetPasses)
		require.Zero(t, alone.Drafted)
		require.Empty(t, alone.PerPositionAcceptance)
		for _, k := range []string{"1", "4", "7", "auto"} {
			s := samplesOf(t, "-prompt", prompt, "-n", "60", "-k", k)[0]
			require.Equal(t, alone.Text, s.Text, "-k %s", k)
			require.Equal(t, alone.Tokens, s.Tokens)
			require.Equal(t, prompt, s.Prompt)
			require.Len(t, s.Tokens, 60)
			require.Equal(t, 60, s.TargetPasses+s.Accepted)
			require.Positive(t, s.Seconds)
			if k == "4" {
				require.Less(t, s.TargetPasses, 40)
				require.Len(t, s.PerPositionAcceptance, 4)
			}
		}
	}
}

// TestSamples: samples of one batch have the seeds from -seed on, and each is what its seed
// gives alone.
func TestSamples(t *testing.T) {
	args := []string{"-n", "40", "-temperature", "0.9", "-top-p", "0.95", "-top-k", "40", "-min-p", "0.01"}
	all := samplesOf(t, append(args, "-samples", "3", "-seed", "7")...)
	require.Len(t, all, 3)
	require.NotEqual(t, all[0].Text, all[1].Text)
	for i, seed := range []string{"7", "8", "9"} {
		alone := samplesOf(t, append(args, "-seed", seed)...)[0]
		require.EqualValues(t, 7+i, all[i].Seed)
		require.Equal(t, alone.Tokens, all[i].Tokens)
		require.Equal(t, alone.Seed, all[i].Seed)
	}
	require.Len(t, samplesOf(t, append(args, "-no-draft")...)[0].Tokens, 40)
}

// TestPipe: in a pipe standard output is the prompt with its text, and the summary goes to
// standard error. A checkpoint folder is as good as the built-in one.
func TestPipe(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, m3tiny.Checkpoint()))
	file := filepath.Join(t.TempDir(), "prompt.txt")
	require.NoError(t, os.WriteFile(file, []byte("type Writer struct {\n"), 0o600))
	code, stdout, stderr := runGenerate("-file", file, "-n", "30", "-checkpoint", dir)
	require.Equal(t, cli.OK, code, stderr)
	require.Len(t, stdout, len("type Writer struct {\n")+30)
	require.True(t, strings.HasPrefix(stdout, "type Writer struct {\n"))
	require.Regexp(t, `^30 bytes in \d+ target passes, \d+ saved: \d\.\d\d bytes a pass\n\d+ of \d+ drafts accepted, \d+ bytes/s\n$`, stderr)
	code, again, _ := runGenerate("-f", file, "-n", "30", "-no-draft")
	require.Equal(t, cli.OK, code)
	require.Equal(t, stdout, again)
	code, stdout, _ = runGenerate("-n", "5", "-samples", "2")
	require.Equal(t, cli.OK, code)
	require.Regexp(t, `(?s)^== sample 1, seed 1\n.*\n\n== sample 2, seed 2\n`, stdout)
}

// TestTerminal: accepted drafts are green, and nothing moves the cursor.
func TestTerminal(t *testing.T) {
	s := &sample{promptLen: 1, Seed: 1}
	s.text = textOf("a\x1bbcd\n", false, true, true, false, true)
	var out bytes.Buffer
	p := &printer{settings: &settings{}, stdout: &out, colored: true}
	require.NoError(t, p.show(s))
	require.NoError(t, p.show(s), "what was shown is not shown again")
	require.Equal(t, "a\\x1b"+green+"bc"+plain+"d"+green+"\n", out.String())
	s.finish(1)
	require.NoError(t, p.finish([]*sample{s}))
	require.Contains(t, out.String(), green+"green"+plain+": drafts that the target accepted")
	require.Contains(t, out.String(), "5 bytes in 2 target passes, 3 saved")
}

func TestRefuses(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-h"}, cli.OK, "exit status"},
		{[]string{"-wrong"}, cli.Usage, "generate: flag provided but not defined: -wrong; run generate -h for its flags\n"},
		{[]string{"x"}, cli.Usage, "generate: unexpected arguments [\"x\"]; run "},
		{[]string{"-prompt", ""}, cli.Usage, "generate: -prompt is empty, want text; run "},
		{[]string{"-prompt", "a", "-file", "b"}, cli.Usage, "generate: -prompt and -file are both given, want one; run "},
		{[]string{"-n", "0"}, cli.Usage, "generate: -n is 0, want 1 to 2^20; run "},
		{[]string{"-k", "0"}, cli.Usage, "generate: -k is 0, want 1 to 64, or auto; run "},
		{[]string{"-k", "65"}, cli.Usage, "generate: -k is 65, want 1 to 64, or auto; run "},
		{[]string{"-k", "many"}, cli.Usage, "generate: -k is many, want 1 to 64, or auto; run "},
		{[]string{"-temperature", "-1"}, cli.Usage, "generate: -temperature is -1, want 0 to 1e6; run "},
		{[]string{"-temperature", "NaN"}, cli.Usage, "generate: -temperature is NaN, want 0 to 1e6; run "},
		{[]string{"-top-p", "0"}, cli.Usage, "generate: -top-p is 0, want above 0, up to 1; run "},
		{[]string{"-top-p", "2"}, cli.Usage, "generate: -top-p is 2, want above 0, up to 1; run "},
		{[]string{"-top-k", "-1"}, cli.Usage, "generate: -top-k is -1, want 0 or more; run "},
		{[]string{"-min-p", "1.5"}, cli.Usage, "generate: -min-p is 1.5, want 0 to 1; run "},
		{[]string{"-samples", "0", "-n", "-1"}, cli.Usage, "generate: -n is -1, want 1 to 2^20; -samples is 0, want 1 to 1024; run "},
		{[]string{"-n", "5000"}, cli.Usage, "generate: the prompt has 26 bytes and -n is 5000, want at most 4096 together, the model's positions; run "},
		{[]string{"-device", "abacus"}, cli.Usage, "want cpu[:bf16x2|bf16], reference or hip[:n]"},
		{[]string{"-device", "hip:999"}, cli.Failed, "no GPU device"},
		{[]string{"-file", filepath.Join(dir, "none")}, cli.Failed, "generate: -file: open " + filepath.Join(dir, "none")},
		{[]string{"-file", empty}, cli.Failed, "is empty, want text\n"},
		{[]string{"-checkpoint", dir}, cli.Failed, "generate: " + dir + ": "},
		{[]string{"-checkpoint", dir + "/none"}, cli.Failed, "generate: " + dir + "/none: no such file or directory; want a folder with config.json"},
		{[]string{"-checkpoint", "../../mtp/testdata/golden/tiny-f32"}, cli.Failed, "tiny-f32: this checkpoint has no target, no model.layers.* "},
		{[]string{"-checkpoint", "generate_test.go"}, cli.Failed, "generate: generate_test.go is a file, want a folder\n"},
	} {
		code, stdout, stderr := runGenerate(c.args...)
		require.Equal(t, c.code, code, "%v: %s", c.args, stderr)
		require.Contains(t, stderr, c.says, "%v", c.args)
		require.Empty(t, stdout)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var stdout, stderr bytes.Buffer
	require.Equal(t, cli.Failed, run(ctx, nil, &stdout, &stderr))
	require.Equal(t, "generate: interrupted\n", stderr.String())
}

// textOf is a text after a prompt of one byte.
func textOf(text string, accepted ...bool) *speculate.Text {
	t := &speculate.Text{Accepted: accepted, DraftedAt: []int{3}, AcceptedAt: []int{3}}
	for _, b := range []byte(text) {
		t.Tokens = append(t.Tokens, int32(b))
	}
	for _, is := range accepted {
		if !is {
			t.Passes++
		}
	}
	return t
}
