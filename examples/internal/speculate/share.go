package speculate

import "errors"

// Ran is how many of a text's tokens the target has run.
func (t *Text) Ran() int {
	if t.target == nil {
		return 0
	}
	return t.target.Len()
}

// Ready is how many rows of a text others can share now. The head may be a pass late.
func (t *Text) Ready() int {
	if t.Drafts > 0 && t.head != nil {
		return min(t.Ran(), t.head.Len())
	}
	return t.Ran()
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
	n := min(t.Common(from)-1, from.Ready(), len(t.Tokens)-1)
	if n < 1 || (t.Drafts > 0) != (from.Drafts > 0) {
		return 0, nil
	}
	target, err := from.target.Fork()
	if err != nil {
		return 0, err
	}
	head := e.Cache.NewSequence()
	if t.Drafts > 0 {
		if head, err = from.head.Fork(); err == nil {
			err = head.Truncate(n)
		}
	}
	if err == nil {
		if t.Drafts > 0 {
			n = head.Resume() // earlier, where a chain runs rows again
		}
		err = target.Truncate(n)
	}
	if err != nil {
		if head != nil {
			err = errors.Join(err, head.Close())
		}
		return 0, errors.Join(err, target.Close())
	}
	t.target, t.head = target, head
	return n, nil
}
