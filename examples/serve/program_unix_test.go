//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// program is the built program, while it runs.
type program struct {
	*exec.Cmd
	out  *log // what it wrote
	base string
}

// runProgram builds serve, starts it with flags on a free port, and waits until it listens.
func runProgram(t *testing.T, flags ...string) *program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "serve")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	built, err := build.CombinedOutput()
	require.NoError(t, err, "%s", built)
	p := &program{Cmd: exec.CommandContext(t.Context(), path, append([]string{"-addr", "localhost:0"}, flags...)...), out: &log{}}
	p.Stdout, p.Stderr = p.out, p.out
	require.NoError(t, p.Start())
	t.Cleanup(func() {
		_ = p.Process.Kill() // it has ended, if the test passes
		http.DefaultClient.CloseIdleConnections()
	})
	url := regexp.MustCompile(`url=(\S+)`)
	require.Eventually(t, func() bool { return url.MatchString(p.out.String()) }, time.Minute, 5*time.Millisecond, "it does not listen: %s", p.out)
	p.base = url.FindStringSubmatch(p.out.String())[1]
	return p
}

func (p *program) get(t *testing.T, path string) string {
	t.Helper()
	response, err := http.Get(p.base + path)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", text)
	return string(text)
}

// post starts a completion, whose body the caller reads and closes.
func (p *program) post(t *testing.T, body string) io.ReadCloser {
	t.Helper()
	response, err := http.Post(p.base+"/v1/completions", "application/json", strings.NewReader(body))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	return response.Body
}

// TestProgram builds and runs the program as a user does: it is healthy, completes, counts,
// loads again on SIGHUP, and on SIGTERM finishes the stream under way and exits with 0.
func TestProgram(t *testing.T) {
	p := runProgram(t)
	require.Equal(t, "ok\n", p.get(t, "/healthz"))
	answer := p.post(t, `{"prompt": "package main\n", "max_tokens": 30, "temperature": 0}`)
	var c completion
	require.NoError(t, json.NewDecoder(answer).Decode(&c))
	require.NoError(t, answer.Close())
	require.Len(t, c.Choices, 1)
	require.Equal(t, targetWrites(t, []string{"package main\n"}, 30)[0], c.Choices[0].Text)
	require.Contains(t, p.get(t, "/metrics"), "vllm:generation_tokens_total{model_name=\"m3-tiny\"} 30\n")

	require.NoError(t, p.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return strings.Count(p.out.String(), "msg=loaded") == 2 }, time.Minute, 5*time.Millisecond)
	stream := bufio.NewReader(p.post(t, `{"prompt": "package main\n", "max_tokens": 500, "stream": true}`))
	first, err := stream.ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	rest, err := io.ReadAll(stream)
	require.NoError(t, err)
	require.Equal(t, reasonLength, *joined(events(t, append([]byte(first), rest...)), 1)[0].FinishReason)
	require.NoError(t, p.Wait(), "%s", p.out)
	require.NotContains(t, p.out.String(), "ERROR")
}
