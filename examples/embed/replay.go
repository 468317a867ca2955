package main

import (
	"slices"

	"github.com/drafthead/drafthead/examples/internal/m3tiny"
)

// replay is a target whose text is known beforehand.
type replay struct {
	trace *m3tiny.Trace
}

func newReplay(t *m3tiny.Trace) replay { return replay{t} }

func (r replay) name() string { return r.trace.Name }

func (r replay) prompt() (tokens []int32, hidden []uint16) {
	n := r.trace.PromptLen
	return r.trace.Tokens[1 : n+1], r.trace.Hidden[:n*r.trace.Width]
}

// verify plays the target up to the end of the trace. What it would choose after a wrong
// draft is not recorded: nobody reads those entries.
func (r replay) verify(p int, drafts []int32) (chosen []int32, hidden []uint16) {
	end := min(p+len(drafts)+1, len(r.trace.Tokens)-1)
	if end <= p {
		return nil, nil
	}
	return r.trace.Tokens[p+1 : end+1], r.trace.Hidden[p*r.trace.Width : end*r.trace.Width]
}

func (r replay) wrote(text []int32) bool {
	return slices.Equal(text, r.trace.Tokens[r.trace.PromptLen:])
}
