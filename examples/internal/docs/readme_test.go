package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mostReadme is how many lines a reader has patience for.
const mostReadme = 130

// readme returns the README's lines.
func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// block returns what is between two lines of a text.
func block(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, from)
	require.True(t, found, "no %q", from)
	inside, _, found := strings.Cut(rest, to)
	require.True(t, found, "no %q after %q", to, from)
	return inside
}

// TestReadmeProgram: the README's program is the example of package mtp, it can be pasted
// and runs, and it prints what the README says.
func TestReadmeProgram(t *testing.T) {
	text := readme(t)
	require.LessOrEqual(t, strings.Count(text, "\n"), mostReadme)
	program := block(t, text, "\n```go\n", "```\n")
	output := block(t, text, "```go\n"+program+"```\n\n```\n", "```\n")
	body := block(t, program, "\nfunc main() {", "\n}\n")
	require.LessOrEqual(t, strings.Count(body, "\n"), 25, "lines of the program")

	example, err := os.ReadFile(filepath.Join(root, "mtp", "example_test.go"))
	require.NoError(t, err)
	require.Equal(t, block(t, strings.ReplaceAll(string(example), "\r\n", "\n"), "\nfunc Example() {", "\n\t// Output:"), body)

	file := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(file, []byte(program), 0o600))
	printed, err := command("go", "run", file).CombinedOutput()
	require.NoError(t, err, "%s", printed)
	require.Equal(t, output, string(printed))
}

// command runs in the repository's root.
func command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Dir = root
	return c
}

// shell is a block of commands; a command ends at its comment.
var shell = regexp.MustCompile("(?s)```sh\n(.*?)```\n")

// TestCommands: every program that the documentation runs by its commands is there, has the
// flags that they name, and every path in them exists. What stands in capitals, a folder or
// a file of the reader's own, does not.
func TestCommands(t *testing.T) {
	bin := builtPrograms(t)
	usage := map[string]string{} // by program
	checked := 0
	for _, file := range documents(t) {
		text, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		for _, commands := range shell.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\r\n", "\n"), -1) {
			for line := range strings.Lines(strings.ReplaceAll(commands[1], "\\\n", " ")) {
				line, _, _ = strings.Cut(line, " #")
				words := strings.Fields(line)
				program, args := programOf(words)
				if program == "" {
					continue
				}
				if usage[program] == "" {
					text, err := exec.Command(filepath.Join(bin, program), "-h").CombinedOutput()
					require.NoError(t, err, "%s: %s -h", file, program)
					usage[program] = string(text)
				}
				for _, arg := range args {
					if name, isFlag := strings.CutPrefix(arg, "-"); isFlag {
						name, _, _ = strings.Cut(name, "=")
						require.Regexp(t, `(?m)^  -`+regexp.QuoteMeta(name)+`\b`, usage[program], "%s: %s", file, line)
						checked++
					} else if strings.Contains(arg, "/") && !strings.HasPrefix(arg, "path/") && arg == strings.ToLower(arg) && !share.MatchString(arg) {
						found, err := filepath.Glob(filepath.Join(root, arg))
						require.NoError(t, err)
						require.NotEmpty(t, found, "%s: %s: there is no %s", file, line, arg)
						checked++
					}
				}
			}
		}
	}
	require.Greater(t, checked, 20, "flags and paths that were looked at")
}

// share is one of several, 0/4.
var share = regexp.MustCompile(`^\d+/\d+$`)

// programs are what a command may run.
var programs = regexp.MustCompile(`^(?:\./examples/)?(draft|generate|serve|verify|inspect|bench|synth)$`)

// programOf returns the program of examples that a command runs, and its arguments.
func programOf(words []string) (program string, args []string) {
	if len(words) >= 3 && words[0] == "go" && words[1] == "run" && strings.HasPrefix(words[2], "./examples/") {
		words = words[2:]
	}
	if len(words) == 0 {
		return "", nil
	}
	found := programs.FindStringSubmatch(words[0])
	if found == nil {
		return "", nil
	}
	return found[1], words[1:]
}

// documents returns the Markdown files of the repository, but for those of test data.
func documents(t *testing.T) (files []string) {
	t.Helper()
	list, err := command("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md").Output()
	if err != nil {
		t.Skip("not a git repository: ", err)
	}
	for file := range strings.Lines(string(list)) {
		file = strings.TrimSpace(file)
		if _, err := os.Stat(filepath.Join(root, file)); err == nil {
			files = append(files, file)
		}
	}
	return files
}

// target is where a link or a picture of a document leads to.
var target = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestDocumentLinks: files that documents link to exist, and so do the headings.
func TestDocumentLinks(t *testing.T) {
	checked := 0
	for _, file := range documents(t) {
		text, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		for _, found := range target.FindAllStringSubmatch(string(text), -1) {
			to, heading, _ := strings.Cut(found[1], "#")
			if strings.Contains(to, "://") {
				continue
			}
			linked := filepath.Join(root, file)
			if to != "" {
				linked = filepath.Join(filepath.Dir(linked), filepath.FromSlash(to))
			}
			require.True(t, exists(linked), "%s links to %s", file, found[1])
			if checked++; heading != "" {
				content, err := os.ReadFile(linked)
				require.NoError(t, err)
				require.Contains(t, headings(string(content)), heading, "%s links to %s", file, found[1])
			}
		}
	}
	require.Greater(t, checked, 20)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// headings returns the anchors of a document's headings.
func headings(text string) (anchors []string) {
	for _, found := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		anchor := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(found[1])), "")
		anchors = append(anchors, strings.ReplaceAll(anchor, " ", "-"))
	}
	return anchors
}

// sourcePath is the path of a source in prose; a * stands for more files.
var sourcePath = regexp.MustCompile(`(?:^|[\s(|` + "`" + `])((?:[a-z0-9_.]+/)+[a-z0-9_*]+\.(?:go|hip|h|cpp|md))\b`)

// TestDocumentPaths: sources that documents name, from the root on or from where they lie,
// exist.
func TestDocumentPaths(t *testing.T) {
	checked := 0
	for _, file := range documents(t) {
		text, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		for _, found := range sourcePath.FindAllStringSubmatch(string(text), -1) {
			first, _, _ := strings.Cut(found[1], "/")
			if !exists(filepath.Join(root, first)) {
				continue // of another repository
			}
			var there []string
			for _, from := range []string{root, filepath.Join(root, filepath.Dir(file))} {
				files, err := filepath.Glob(filepath.Join(from, found[1]))
				require.NoError(t, err)
				there = append(there, files...)
			}
			require.NotEmpty(t, there, "%s names %s", file, found[1])
			checked++
		}
	}
	require.Greater(t, checked, 30)
}

// TestReadmeCommandsRunInCI: .ci/run runs the README's first commands.
func TestReadmeCommandsRunInCI(t *testing.T) {
	ci, err := os.ReadFile(filepath.Join(root, ".ci", "run"))
	require.NoError(t, err)
	tried := block(t, readme(t), "## Try it\n", "\n## ")
	commands := regexp.MustCompile("(?m)^(go run [^ ]+)").FindAllStringSubmatch(tried, -1)
	require.Len(t, commands, 2)
	for _, c := range commands {
		require.Contains(t, string(ci), "\n"+c[1], fmt.Sprintf(".ci/run does not run %s", c[1]))
	}
}
