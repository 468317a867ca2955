package mtp

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/dlclark/regexp2"
)

// Bounds that keep a hostile ignored_layers from costing much: patterns
// backtrack, and some never end.
const (
	maxPatterns     = 256
	maxPatternBytes = 4096
	patternTimeout  = 500 * time.Millisecond
)

// errPattern is a pattern that takes too long.
var errPattern = errors.New("bad pattern")

// ignorePattern is one compiled "re:" entry of ignored_layers. Most are regular
// and match in linear time; the others, with lookarounds or backreferences,
// backtrack, and are given up after a while.
type ignorePattern struct {
	entry        string
	linear       *regexp.Regexp  // anchored at the start, or nil
	backtracking *regexp2.Regexp // or nil
}

// compilePattern compiles a Python regular expression, the part of entry after
// "re:".
func compilePattern(entry, expression string) (ignorePattern, error) {
	if len(expression) > maxPatternBytes {
		return ignorePattern{}, fmt.Errorf("longer than %d bytes", maxPatternBytes)
	}
	translated := fromPython(expression)
	compiled, err := regexp2.Compile(translated, regexp2.None)
	if err != nil {
		return ignorePattern{}, err
	}
	if linear, err := regexp.Compile("^(?:" + translated + ")"); err == nil {
		return ignorePattern{entry: entry, linear: linear}, nil
	}
	compiled.MatchTimeout = patternTimeout
	return ignorePattern{entry: entry, backtracking: compiled}, nil
}

// match reports whether the pattern matches name from its first character.
// A backtracking search goes through starting points in order, so a match at 0
// exists exactly when the first one found is there.
func (p ignorePattern) match(name string) (bool, error) {
	if p.linear != nil {
		return p.linear.MatchString(name), nil
	}
	m, err := p.backtracking.FindStringMatch(name)
	if err != nil {
		return false, fmt.Errorf("%w: ignored_layers entry %q on module %q: no answer within %v", errPattern, p.entry, name, patternTimeout)
	}
	return m != nil && m.Index == 0, nil
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
