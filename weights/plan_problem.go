package weights

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// ErrMissing is the rule of a [Problem] for an absent tensor: the checkpoint belongs to
// another model, or is incomplete.
var ErrMissing error = ruleMissing

// What can be wrong with a tensor, seen from the parameter that wants it.
const (
	ruleMissing       ruleText = "tensor is missing"
	ruleMissingLayer  ruleText = "no tensor of the MTP layer"
	ruleUnexpected    ruleText = "no parameter takes the tensor" // though it is under the head's own prefix
	ruleLoadedTwice   ruleText = "part is given twice"
	ruleWrongShape    ruleText = "wrong shape"
	ruleWrongDtype    ruleText = "wrong dtype"
	ruleMissingScale  ruleText = "weight has no scales"
	ruleStrayScale    ruleText = "scales without a quantized weight"
	ruleMissingGlobal ruleText = "weight has no scale of the whole matrix"
	ruleBadGlobal     ruleText = "scale of the whole matrix is of no use"
	ruleUnreadable    ruleText = "tensor cannot be read"
	ruleCutBlock      ruleText = "share cuts through a scale block"
)

// ruleText is a rule in words, and an error of its own, so that errors.Is finds it.
type ruleText string

func (r ruleText) Error() string { return string(r) }

// Problem is one thing wrong with a checkpoint: a tensor that is missing or given twice,
// of a wrong shape or dtype, a weight without its scales or scales without their weight,
// or a tensor of the head that nothing takes: one under its own prefix, or any name with
// "mtp.layers" in it. Each category reports all of its problems together, by tensor;
// [Problems] lists them one by one. Shards that hold nothing of the head are not opened and
// may be absent.
type Problem struct {
	Tensor    string // in the checkpoint
	Rule      error  // in words
	Got, Want string // "" where Rule says it all
	Note      string // what vLLM says of it, and what else was seen; may be ""

	param string // in the model; "" if there is none
}

// Error returns one line: tensor, rule, what was got and wanted, and for which
// parameter.
func (p *Problem) Error() string { return "weights: " + p.text() }

func (p *Problem) text() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s: %v", safetensors.Printable(p.Tensor), p.Rule)
	if p.Got != "" {
		s.WriteString(": got " + p.Got)
	}
	if p.Want != "" {
		s.WriteString(", want " + p.Want)
	}
	if p.Note != "" {
		s.WriteString(": " + p.Note)
	}
	if p.param != "" && p.param != p.Tensor {
		s.WriteString(" (for " + p.param + ")")
	}
	return s.String()
}

// Unwrap makes the error match its Rule.
func (p *Problem) Unwrap() error { return p.Rule }

// auditError holds all problems of a checkpoint, sorted by tensor.
type auditError []*Problem

// shownProblems is how many problems a message spells out.
const shownProblems = 32

// Error returns a line per problem, the first 32 of them.
func (e auditError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "weights: checkpoint does not fit the head, %s:", count(len(e), "problem"))
	for i, p := range e {
		if i == shownProblems {
			fmt.Fprintf(&s, "\n  and %d more", len(e)-i)
			break
		}
		s.WriteString("\n  " + p.text())
	}
	return s.String()
}

// Unwrap returns the problems.
func (e auditError) Unwrap() []error {
	errs := make([]error, len(e))
	for i, p := range e {
		errs[i] = p
	}
	return errs
}

// err returns the problems, sorted, and at the end how many more of a rule there are; nil if
// there are none.
func (a *audit) err() error {
	if len(a.problems) == 0 {
		return nil
	}
	problems := a.problems
	slices.SortStableFunc(problems, func(a, b *Problem) int { return cmp.Compare(a.Tensor, b.Tensor) })
	rules := slices.SortedFunc(maps.Keys(a.count), func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	for _, rule := range rules {
		if more := a.count[rule] - maxProblems; more > 0 {
			problems = append(problems, &Problem{Tensor: fmt.Sprintf("%d more", more), Rule: rule})
		}
	}
	return auditError(problems)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
