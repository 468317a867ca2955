package weights

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProblemError(t *testing.T) {
	tests := []struct {
		problem Problem
		want    string
	}{
		{Problem{Tensor: "t", param: "p", Rule: ErrMissing}, "t: tensor is missing (for p)"},
		{Problem{Tensor: "t", param: "t", Rule: ErrMissing}, "t: tensor is missing"},
		{Problem{Tensor: "t", Rule: ruleUnexpected}, "t: no parameter takes the tensor"},
		{Problem{Tensor: "t", param: "p", Got: "[2]", Want: "[3]", Rule: ruleWrongShape}, "t: wrong shape: got [2], want [3] (for p)"},
		{Problem{Tensor: "x.3.", Note: "Failed to load MTP layer 3 weights from checkpoint.", Rule: ruleMissingLayer}, "x.3.: no tensor of the MTP layer: Failed to load MTP layer 3 weights from checkpoint."},
		{Problem{Tensor: "a\x1b[2J\nb", Rule: ruleUnexpected}, `"a\x1b[2J\nb": no parameter takes the tensor`},
	}
	for _, test := range tests {
		require.EqualError(t, &test.problem, "weights: "+test.want)
		require.ErrorIs(t, &test.problem, test.problem.Rule)
	}
	long := Problem{Tensor: strings.Repeat("x", 10_000), Rule: ruleUnexpected}
	require.Less(t, len(long.Error()), 400)
}

func TestProblemsAsAnError(t *testing.T) {
	require.NoError(t, asErr(nil))
	one := asErr([]*Problem{{Tensor: "t", Rule: ErrMissing}})
	require.EqualError(t, one, "weights: checkpoint does not fit the head, 1 problem:\n  t: tensor is missing")
	var problems []*Problem
	for i := range shownProblems + 3 {
		problems = append(problems, &Problem{Tensor: fmt.Sprintf("t%02d", 99-i), Rule: ErrMissing})
	}
	many := asErr(problems)
	lines := strings.Split(many.Error(), "\n")
	require.Len(t, lines, 1+shownProblems+1)
	require.Contains(t, lines[0], "35 problems")
	require.Equal(t, "  t65: tensor is missing", lines[1], "sorted")
	require.Equal(t, "  and 3 more", lines[len(lines)-1])
	require.Len(t, Problems(many), shownProblems+3, "all of them")
	require.ErrorIs(t, many, ErrMissing)
	require.NotErrorIs(t, many, ruleUnexpected)
}
