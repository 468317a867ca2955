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

	patternPrefix = "re:" // of an entry of ignored_layers
)

// errPattern is a pattern that does not compile or takes too long.
var errPattern = errors.New("bad pattern")

// ignoredModules answers whether ignored_layers exempts a module from quantization.
type ignoredModules struct {
	modules  map[string]bool
	patterns []ignorePattern
	deadline time.Time
}

// ignorePattern is one compiled "re:" entry.
type ignorePattern struct {
	entry   string
	matcher *regexp2.Regexp
}

// newIgnoredModules compiles the entries of ignored_layers. All that is asked of the
// result has to be answered within patternTime.
func newIgnoredModules(entries []string) (*ignoredModules, error) {
	m := &ignoredModules{modules: make(map[string]bool), deadline: time.Now().Add(patternTime)}
	bytes := 0
	for i, entry := range entries {
		expression, isPattern := strings.CutPrefix(entry, patternPrefix)
		if !isPattern {
			m.modules[entry] = true
			continue
		}
		if bytes += len(expression); bytes > maxPatternBytes || len(m.patterns) == maxPatterns {
			return nil, fmt.Errorf("%w: more than %d patterns or %d bytes of them", errPattern, maxPatterns, maxPatternBytes)
		}
		matcher, err := compilePattern(expression)
		if err != nil {
			return nil, fmt.Errorf("%w: entry %d, %s: %s", errPattern, i, safetensors.Printable(entry), safetensors.Printable(err.Error()))
		}
		m.patterns = append(m.patterns, ignorePattern{entry, matcher})
	}
	return m, nil
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

// ignored reports whether a module is exempt. The module is a checkpoint name without
// ".weight"; it is tried both with and without the "language_model." prefix. A plain
// entry exempts the module of that name and all below it; a pattern must match from the
// module's first character, as Python's re.match. A pattern that does not finish in time
// is an error that names it and matches errPattern.
func (m *ignoredModules) ignored(module string) (bool, error) {
	bare := strings.TrimPrefix(module, bundledPrefix)
	if len(bare) > maxModuleName {
		return false, nil // no module of the head
	}
	for _, name := range []string{bare, bundledPrefix + bare} {
		if m.modules[name] {
			return true, nil
		}
		for i, char := range name {
			if char == '.' && m.modules[name[:i]] {
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
func (m *ignoredModules) match(p ignorePattern, name string) (bool, error) {
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
