package main

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/hip/hiptest"
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
		{[]string{"-sequences", "12", "-k", "6"}, false},
		{[]string{"-sequences", "1"}, false},
		{nil, false},
		{[]string{"-sequences", "5", "-pages", "14", "-k", "3"}, true},
		{[]string{"-pages", "13", "-k", "24"}, true}, // the least that -k 24 works with
	}
	if hiptest.RaceDetector {
		cases = cases[:1]
	}
	for _, c := range cases {
		code, stdout, stderr := runEmbed(append(c.args, "-json")...)
		require.Equal(t, cli.OK, code, "%v: %s", c.args, stderr)
		var got outcome
		require.NoError(t, json.Unmarshal([]byte(stdout), &got))
		require.Len(t, got.Requests, 12)
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
	code, stdout, stderr := runEmbed("-sequences", "12")
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
		{[]string{"-pages", "12"}, cli.Usage, "-pages is 12, want at least 13 of 32 tokens: trace-07 has 394 tokens, and -k is 4\n"},
		{[]string{"-pages", "13", "-k", "25"}, cli.Usage, "want at least 14 of"},
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
