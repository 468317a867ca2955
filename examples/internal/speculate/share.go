package speculate

import (
	"errors"

	"github.com/drafthead/drafthead/mtp"
)

// Ran is how many of a text's tokens the target has run.
func (t *Text) Ran() int {
	if t.target == nil {
		return 0
	}
	return t.target.Len()
}

// Common is how many tokens two texts begin with alike.
func (t *Text) Common(with *Text) int {
	n := 0
	for n < min(len(t.Tokens), len(with.Tokens)) && t.Tokens[n] == with.Tokens[n] {
		n++
	}
	return n
}

// Share lets a text that has run nothing begin with the rows of another, and returns how
// many it took over. Pages are shared until one of the two writes them. With n tokens in
// common these are n−1 rows at most, since the head's row n−1 carries token n:
//
//	from      a b c d x …     target's rows a b c d     head's rows b c d x
//	t         a b c d y       target's rows a b c       head's rows b c d       n = 4
//
// The target runs d again, for its hidden state. A chain that runs rows again begins earlier,
// up to as many rows as it has steps; [Engine].Chunk must be more than that.
func (e *Engine) Share(t, from *Text) (rows int, err error) {
	if t.target != nil || from.target == nil {
		return 0, nil
	}
	n := min(t.Common(from)-1, from.Ran(), len(t.Tokens)-1)
	if n < 1 || (t.Drafts > 0) != (from.Drafts > 0) {
		return 0, nil
	}
	target, err := from.target.Fork()
	if err != nil {
		return 0, err
	}
	head := e.Cache.NewSequence()
	if t.Drafts > 0 {
		n, head, err = e.shareHead(t, from, n)
	}
	if err = errors.Join(err, target.Truncate(n)); err != nil {
		t.pending = 0
		return 0, errors.Join(err, head.Close(), target.Close())
	}
	t.target, t.head = target, head
	return n, nil
}

// shareHead forks the head's sequence of a text for the first n rows, and copies those that
// wait for the head. It returns from which row on the target has to run.
func (e *Engine) shareHead(t, from *Text, n int) (int, *mtp.Sequence, error) {
	head, err := from.head.Fork()
	if err != nil {
		return n, nil, err
	}
	if waiting := n - head.Len(); waiting > 0 {
		hidden := from.hidden.Ptr().Add(4 * int64(from.given) * int64(e.Target.Config.HiddenSize))
		return n, head, e.await(t, hidden, waiting)
	}
	err = head.Truncate(n)
	return head.Resume(), head, err // earlier, where a chain runs rows again
}
