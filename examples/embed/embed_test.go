package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"strconv"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/m3tiny"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

func runEmbed(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(context.Background(), args, &out, &err)
	return code, out.String(), err.String()
}

// TestTextsAreTheTargets however many requests share however few pages.
func TestTextsAreTheTargets(t *testing.T) {
	cases := []struct {
		args      []string
		preempted bool
	}{
		{[]string{"-sequences", "3", "-k", "6"}, false},
		{[]string{"-sequences", "1"}, false},
		{nil, false},
		{[]string{"-sequences", "2", "-pages", "17", "-k", "3"}, true},
		{[]string{"-pages", "16", "-k", "20"}, true}, // the least that -k 20 works with
	}
	if hiptest.RaceDetector {
		cases = cases[:1]
	}
	for _, c := range cases {
		code, stdout, stderr := runEmbed(append(c.args, "-json")...)
		require.Equal(t, cli.OK, code, "%v: %s", c.args, stderr)
		var got outcome
		require.NoError(t, json.Unmarshal([]byte(stdout), &got))
		require.Len(t, got.Requests, 3)
		for i, r := range got.Requests {
			require.True(t, r.Exact, "%v: %s", c.args, r.Name)
			require.Equal(t, r.Tokens, 1+r.Accepted+r.Rounds, "a round gives its accepted drafts and one token more")
			if i > 0 {
				require.Less(t, got.Requests[i-1].Name, r.Name, "in the order of submission")
			}
		}
		require.Equal(t, c.preempted, got.Preemptions > 0, "%v", c.args)
		require.Greater(t, got.TokensPerRun, 3.0)
	}
}

func TestTable(t *testing.T) {
	code, stdout, stderr := runEmbed("-sequences", "3")
	require.Equal(t, cli.OK, code, stderr)
	require.Contains(t, stdout, "tokens for each pass of the target")
	require.NotContains(t, stdout, "NOT")
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-h"}, cli.OK, "exit status"},
		{[]string{"x"}, cli.Usage, `unexpected arguments ["x"]`},
		{[]string{"-sequences", "0"}, cli.Usage, "-sequences is 0, want 1 or more"},
		{[]string{"-k", "65", "-pages", "-1"}, cli.Usage, "-pages is -1, want 0 or more\n-k is 65, want 1 to 64"},
		{[]string{"-wrong"}, cli.Usage, "usage: embed"},
		{[]string{"-pages", "15"}, cli.Usage, "-pages is 15, want at least 16 of 32 tokens: trace-02 has 494 tokens, and -k is 4\n"},
		{[]string{"-pages", "16", "-k", "21"}, cli.Usage, "want at least 17 of"},
		{[]string{"-device", "abacus"}, cli.Usage, "want cpu, reference or hip[:n]"},
		{[]string{"-device", "hip:x"}, cli.Usage, "want cpu, reference or hip[:n]"},
		{[]string{"-device", "hip:999"}, cli.Failed, "no GPU device"},
	} {
		code, stdout, stderr := runEmbed(c.args...)
		require.Equal(t, c.code, code, "%v", c.args)
		require.Contains(t, stderr, c.says, "%v", c.args)
		require.Empty(t, stdout)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var stderr bytes.Buffer
	require.Equal(t, cli.Failed, run(ctx, nil, &bytes.Buffer{}, &stderr))
	require.Contains(t, stderr.String(), context.Canceled.Error())
}

// TestTextsEndWithThePositions: requests that come to the last position of the model end
// there, each at a round of its own, and their texts are the target's up to it.
func TestTextsEndWithThePositions(t *testing.T) {
	const positions, k = 300, 4
	traces, err := m3tiny.Traces()
	require.NoError(t, err)
	head, err := mtp.LoadFS(t.Context(), shortened(t, positions), mtp.Options{Device: device(t)})
	require.NoError(t, err)
	defer func() { require.NoError(t, head.Close()) }()
	cache, err := head.NewCache(64)
	require.NoError(t, err)
	s := &scheduler{head: head, cache: cache, most: 3, k: k}
	for _, trace := range traces[:3] {
		require.Less(t, trace.PromptLen, positions)
		require.Greater(t, len(trace.Tokens), positions+1)
		s.submit(newReplay(trace))
	}
	for s.busy() {
		require.NoError(t, s.round(t.Context()))
	}
	require.Len(t, s.finished, 3)
	for _, r := range s.finished {
		trace := traces[r.number]
		require.Equal(t, trace.Tokens[trace.PromptLen:positions+1], r.text, trace.Name)
		require.Greater(t, r.accepted, 0)
	}
	require.Equal(t, cache.Pages(), cache.FreePages())
}

// device is a CPU that the test closes.
func device(t *testing.T) hip.Device {
	t.Helper()
	d := hip.NewHost()
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// shortened is the built-in checkpoint with fewer positions.
func shortened(t *testing.T, positions int) fs.FS {
	t.Helper()
	files := fstest.MapFS{}
	names, err := fs.Glob(m3tiny.Checkpoint(), "*")
	require.NoError(t, err)
	for _, name := range names {
		data, err := fs.ReadFile(m3tiny.Checkpoint(), name)
		require.NoError(t, err)
		files[name] = &fstest.MapFile{Data: data}
	}
	const key = `"max_position_embeddings": `
	config := bytes.Replace(files["config.json"].Data, []byte(key+"4096"), []byte(key+strconv.Itoa(positions)), 1)
	require.NotEqual(t, files["config.json"].Data, config)
	files["config.json"].Data = config
	return files
}
