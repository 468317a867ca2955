package docs

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// wrongUses are command lines that a program refuses, without its name.
var wrongUses = map[string][]string{
	"bench":    {"-nosuch", "-k 65", "-shape x", "x", "-context 0", "-tp 0 -k 0"},
	"draft":    {"-nosuch", "-k 65", "-chain x", "-device x", "-draft-lm-head x", "-seen 0.1", "-tp 0 -k 0"},
	"generate": {"-nosuch", "-k 65", "-n 0", "x", "-temperature -1", "-n 5000", "-n 0 -samples 0"},
	"inspect":  {"-nosuch", "", "a b", "-tp 4/4 DIR", "-modules 65 DIR"},
	"serve":    {"-nosuch", "-k 65", "x", "-max-batch 0", "-grace x", "-queue 0 -pages -1"},
	"synth":    {"-nosuch", "", "-out DIR -shape x", "-out DIR x", "-out DIR -format x -shape x"},
	"verify":   {"-nosuch", "", "-tp 0 CASE", "-modules 65 CASE"},
}

// mistakes are command lines with something wrong in what they name: a program says in its last
// words what to do.
var mistakes = map[string][]string{
	"bench":    {"-checkpoint /nosuch", "-plot x.svg /nosuch"},
	"draft":    {"-checkpoint /nosuch", "/nosuch", "-device hip:99"},
	"generate": {"-checkpoint /nosuch", "-file /nosuch", "-device hip:99"},
	"inspect":  {"/nosuch"},
	"serve":    {"-checkpoint /nosuch -addr localhost:0", "-addr x"},
	"synth":    {"-out README.md"},
	"verify":   {"/nosuch", "-device hip:99 CASE"},
}

// mostColumns is how wide a terminal is.
const mostColumns = 80

// TestPrograms holds all programs to the same manners.
func TestPrograms(t *testing.T) {
	bin := builtPrograms(t)
	run := func(program, args string) (code int, stdout, stderr string) {
		c := command(filepath.Join(bin, program), strings.Fields(args)...)
		var out, errs bytes.Buffer
		c.Stdout, c.Stderr = &out, &errs
		if err := c.Run(); err != nil {
			exit, ok := errors.AsType[*exec.ExitError](err)
			require.True(t, ok, "%v", err)
			code = exit.ExitCode()
		}
		return code, out.String(), errs.String()
	}
	narrow := func(t *testing.T, text string) {
		for line := range strings.Lines(text) {
			require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), mostColumns, "%q", line)
		}
	}
	mains, err := filepath.Glob(filepath.Join(root, "examples", "*", "main.go"))
	require.NoError(t, err)
	require.Len(t, mains, len(wrongUses), "programs with cases")
	for program := range wrongUses {
		t.Run(program, func(t *testing.T) {
			code, stdout, help := run(program, "-h")
			require.Zero(t, code)
			require.Empty(t, stdout)
			narrow(t, help)
			lines := strings.Split(help, "\n")
			require.Regexp(t, "^"+strings.ToUpper(program[:1])+program[1:]+" [a-z].*\\.$", lines[0], "what the program is for")
			require.Regexp(t, `\A[^\n]+\n\n(  [^\n]+\n){2}\n`, help, "two commands")
			require.Regexp(t, "^  "+program+`\b`, lines[2])
			require.Regexp(t, "(?m)^usage: "+program+`\b`, help)
			require.Regexp(t, `(?m)^exit status: 0 .*, 1 .*, 2 wrong usage$`, help)

			for _, args := range wrongUses[program] {
				code, stdout, stderr := run(program, args)
				require.Equal(t, 2, code, "%s: %s", args, stderr)
				require.Empty(t, stdout, args)
				require.Regexp(t, `\A`+program+`: [^\n]+; run `+program+` -h for its flags\n\z`, stderr, args)
			}
			for _, args := range mistakes[program] {
				code, stdout, stderr := run(program, args)
				require.Equal(t, 1, code, "%s: %s", args, stderr)
				says := strings.TrimSpace(stdout + stderr)
				require.Regexp(t, `(?s)want |-h says|needs none|another`, says, args)
			}
		})
	}
	for program, args := range map[string]string{
		"draft": "", "generate": "-samples 2 -n 20", "verify": "-v mtp/testdata/golden/tiny-f32",
		"inspect": "examples/m3tiny/checkpoint", "bench": "-time 1ms -tp 2",
	} {
		_, stdout, stderr := run(program, args)
		t.Run(program+" is narrow", func(t *testing.T) { narrow(t, stdout+stderr) })
	}
}

// TestInstall: "go install ./examples/..." installs the programs that have cases here, and
// nothing else.
func TestInstall(t *testing.T) {
	list, err := command("go", "list", "-f", "{{if eq .Name \"main\"}}{{.ImportPath}}{{end}}", "./...").Output()
	require.NoError(t, err)
	var installed []string
	for path := range strings.FieldsSeq(string(list)) {
		if program, is := strings.CutPrefix(path, module+"/examples/"); is {
			installed = append(installed, program)
		}
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(wrongUses)), installed)
}

// builtPrograms returns a folder with all programs, of which each has its cases.
func builtPrograms(t *testing.T) (bin string) {
	t.Helper()
	bin, err := built()
	require.NoError(t, err)
	return bin
}

var programFolder string // to remove at the end

var built = sync.OnceValues(func() (bin string, err error) {
	if bin, err = os.MkdirTemp("", "drafthead-programs-"); err != nil {
		return "", err
	}
	programFolder = bin
	args := []string{"build", "-o", bin + string(filepath.Separator)}
	for _, program := range slices.Sorted(maps.Keys(wrongUses)) {
		args = append(args, "./examples/"+program)
	}
	out, err := command("go", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return bin, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if programFolder != "" {
		os.RemoveAll(programFolder)
	}
	os.Exit(code)
}
