package weights

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// kinds is one error that matches several.
type kinds []error

func (k kinds) Error() string   { return "one thing" }
func (k kinds) Unwrap() []error { return k }

func TestProblems(t *testing.T) {
	a, b := &Problem{Tensor: "a", Rule: ErrMissing}, &Problem{Tensor: "b", Rule: ruleUnexpected}
	audit := asErr([]*Problem{a, b})
	file := &safetensors.FormatError{File: "f", Rule: errors.New("file is cut short")}
	shard := &safetensors.FormatError{File: "s", Rule: fmt.Errorf("missing shard: %w", fs.ErrNotExist)}
	read := fmt.Errorf("read: %w", fs.ErrPermission)
	one := kinds{ErrMissing, ruleWrongShape}
	for name, c := range map[string]struct {
		err  error
		want []error
	}{
		"none":                                {nil, nil},
		"one":                                 {fs.ErrNotExist, []error{fs.ErrNotExist}},
		"one with its context":                {read, []error{read}},
		"one of two kinds":                    {one, []error{one}},
		"one with its cause":                  {shard, []error{shard}},
		"an audit":                            {audit, []error{a, b}},
		"an audit of one":                     {asErr([]*Problem{a}), []error{a}},
		"an audit with context":               {fmt.Errorf("folder: %w", audit), []error{a, b}},
		"joined":                              {errors.Join(file, shard), []error{file, shard}},
		"one joined":                          {errors.Join(file), []error{file}},
		"joined, with context, twice":         {fmt.Errorf("x: %w", fmt.Errorf("folder: %w", errors.Join(file, one))), []error{file, one}},
		"joined and an audit in what is both": {errors.Join(read, errors.Join(file, audit), fmt.Errorf("x: %w", errors.Join(shard, one))), []error{read, file, a, b, shard, one}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, Problems(c.err)) })
	}
}

// TestProblemsOfManyTensors: more than a message spells out.
func TestProblemsOfManyTensors(t *testing.T) {
	var want []error
	var problems []*Problem
	for i := range 3 * shownProblems {
		p := &Problem{Tensor: fmt.Sprintf("t%03d", i), Rule: ErrMissing}
		problems, want = append(problems, p), append(want, p)
	}
	require.Equal(t, want, Problems(fmt.Errorf("folder: %w", errors.Join(nil, asErr(problems)))))
}

// asErr is what a plan with these problems returns.
func asErr(problems []*Problem) error { return (&audit{problems: problems}).err() }
