package mtp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dlclark/regexp2"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// Bounds of all patterns of a config together: they backtrack, and some never end.
const (
	maxPatterns     = 256
	maxPatternBytes = 16 << 10
	maxPatternCount = 10_000 // product of the counts {n} of a pattern, which may be unrolled
	maxModuleName   = 1 << 10
	patternTime     = time.Second

	patternPrefix = "re:" // of an expression in a list of modules
	wildcards     = "*?["
)

// errPattern is a pattern that does not compile or takes too long.
var errPattern = errors.New("bad pattern")

// patternCompiler compiles the patterns of several lists, within bounds for all of them. All
// that is asked of the results has to be answered by the deadline.
type patternCompiler struct {
	patterns, bytes int
	deadline        time.Time
}

func newPatternCompiler() *patternCompiler {
	return &patternCompiler{deadline: time.Now().Add(patternTime)}
}

// modules answers whether a list names a module.
type modules struct {
	names    map[string]bool
	below    bool // names stand for all that is in the module too
	patterns []modulePattern
	deadline time.Time
}

// modulePattern is one compiled pattern of a list.
type modulePattern struct {
	entry   string
	matcher *regexp2.Regexp
}

// pattern returns the Python expression that an entry stands for, unless it is a name.
func (l moduleList) pattern(entry string) (expression string, ok bool) {
	if expression, ok := strings.CutPrefix(entry, patternPrefix); ok {
		return expression, true
	}
	if l.globs && strings.ContainsAny(entry, wildcards) {
		return fromGlob(entry), true
	}
	return "", false
}

// compile compiles the entries of a list.
func (c *patternCompiler) compile(l moduleList) (*modules, error) {
	m := &modules{names: make(map[string]bool), below: l.below, deadline: c.deadline}
	for i, entry := range l.entries {
		expression, isPattern := l.pattern(entry)
		if !isPattern {
			m.names[entry] = true
			continue
		}
		if c.bytes += len(expression); c.bytes > maxPatternBytes || c.patterns == maxPatterns {
			return nil, fmt.Errorf("%w: more than %d patterns or %d bytes of them", errPattern, maxPatterns, maxPatternBytes)
		}
		c.patterns++
		matcher, err := compilePattern(expression)
		if err != nil {
			return nil, fmt.Errorf("%w: entry %d, %s: %s", errPattern, i, safetensors.Printable(entry), safetensors.Printable(err.Error()))
		}
		m.patterns = append(m.patterns, modulePattern{entry, matcher})
	}
	return m, nil
}

// fromGlob rewrites a name with wildcards, as Python's fnmatch takes it, as an expression:
// * is any text, ? a character, [a-z] and [!a-z] are classes.
func fromGlob(glob string) string {
	var out strings.Builder
	for i := 0; i < len(glob); i++ {
		switch c := glob[i]; c {
		case '*':
			out.WriteString("(?s:.*)")
		case '?':
			out.WriteString("(?s:.)")
		case '[':
			members, _, closed := strings.Cut(glob[min(i+2, len(glob)):], "]")
			if !closed || i+2 >= len(glob) {
				out.WriteString(`\[`)
				continue
			}
			members = string(glob[i+1]) + members // the first may be ] itself
			i += len(members) + 1
			if inverse, ok := strings.CutPrefix(members, "!"); ok {
				members = "^" + strings.ReplaceAll(inverse, `\`, `\\`)
			} else {
				members = strings.ReplaceAll(members, `\`, `\\`)
				if members[0] == '^' {
					members = `\` + members
				}
			}
			out.WriteString("[" + members + "]")
		default:
			out.WriteString(regexp2.Escape(string(c)))
		}
	}
	return out.String() + `\Z`
}

// compilePattern compiles a Python regular expression.
func compilePattern(expression string) (*regexp2.Regexp, error) {
	if counts(expression) > maxPatternCount {
		return nil, fmt.Errorf("repeats more than %d times", maxPatternCount)
	}
	return regexp2.Compile(fromPython(expression), regexp2.None)
}

// counts bounds how often a part of an expression repeats by counts in braces: the product
// of all numbers in them.
func counts(expression string) int {
	product := 1
	for {
		_, rest, found := strings.Cut(expression, "{")
		if !found {
			return product
		}
		count, _, _ := strings.Cut(rest, "}")
		for number := range strings.SplitSeq(count, ",") {
			if n, err := strconv.Atoi(strings.TrimSpace(number)); err == nil || errors.Is(err, strconv.ErrRange) {
				product *= min(max(n, 1), maxPatternCount+1)
				if product > maxPatternCount {
					return product
				}
			}
		}
		expression = rest
	}
}

// has reports whether the list names a module. The module is a checkpoint name without
// ".weight"; it is tried both with and without the "language_model." prefix. A pattern must
// match from the module's first character, as Python's re.match. A pattern that does not
// finish in time is an error that names it and matches errPattern.
func (m *modules) has(module string) (bool, error) {
	bare := strings.TrimPrefix(module, bundledPrefix)
	if len(bare) > maxModuleName {
		return false, nil // no module of the head
	}
	for _, name := range []string{bare, bundledPrefix + bare} {
		if m.names[name] {
			return true, nil
		}
		for i, char := range name {
			if m.below && char == '.' && m.names[name[:i]] {
				return true, nil
			}
		}
		for _, pattern := range m.patterns {
			matched, err := m.match(pattern, name)
			if matched || err != nil {
				return matched, err
			}
		}
	}
	return false, nil
}

// match reports whether a pattern matches name from its first character. The search goes
// through starting points in order, so a match at 0 exists exactly when the first one
// found is there.
func (m *modules) match(p modulePattern, name string) (bool, error) {
	left := time.Until(m.deadline)
	if left > 0 {
		p.matcher.MatchTimeout = left
		match, err := p.matcher.FindStringMatch(name)
		if err == nil {
			return match != nil && match.Index == 0, nil
		}
	}
	return false, fmt.Errorf("%w: %s has no answer within %v for all of them", errPattern, safetensors.Printable(p.entry), patternTime)
}

// fromPython rewrites what Python's re spells differently from regexp2's .NET
// syntax: (?P<name>…) is (?<name>…), (?P=name) is \k<name>, and \Z, the very
// end of the text, is \z. Escapes and character classes pass unchanged.
func fromPython(expression string) string {
	var out strings.Builder
	inClass := false
	for i := 0; i < len(expression); i++ {
		rest := expression[i:]
		switch {
		case rest[0] == '\\' && len(rest) > 1:
			if rest[1] == 'Z' && !inClass {
				out.WriteString(`\z`)
			} else {
				out.WriteString(rest[:2])
			}
			i++
		case inClass:
			inClass = rest[0] != ']'
			out.WriteByte(rest[0])
		case rest[0] == '[':
			// A ] right after [ or [^ is a member, not the end.
			start := classStart(rest)
			out.WriteString(start)
			i += len(start) - 1
			inClass = true
		case strings.HasPrefix(rest, "(?P<"):
			out.WriteString("(?<")
			i += len("(?P<") - 1
		case strings.HasPrefix(rest, "(?P=") && strings.Contains(rest, ")"):
			name, _, _ := strings.Cut(rest[len("(?P="):], ")")
			out.WriteString(`\k<` + name + `>`)
			i += len("(?P=)") + len(name) - 1
		default:
			out.WriteByte(rest[0])
		}
	}
	return out.String()
}

// classStart returns the opening of a character class: [ or [^, and a ] that is its first member.
func classStart(rest string) string {
	n := 1
	if strings.HasPrefix(rest[n:], "^") {
		n++
	}
	if strings.HasPrefix(rest[n:], "]") {
		n++
	}
	return rest[:n]
}
