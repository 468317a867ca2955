package mtp

import (
	"context"
	"errors"
	"fmt"
)

// together runs a part of a call on a rank of a parallel head, which all ranks run together;
// plan is what must be the same on all of them. An error that others may not have ends the
// group.
func (h *Head) together(ctx context.Context, plan []byte, run func() error) error {
	r := h.ranks
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.group.Err(); err != nil {
		return fmt.Errorf("mtp: %w", err)
	}
	r.plan(plan)
	stop, done := r.group.Watch(ctx), false
	defer func() {
		if !done { // an observer panicked
			r.group.Abort(errors.New("a call has panicked"))
			_ = stop()
		}
	}()
	err := run()
	done = true
	var agreed *agreedError
	if err != nil && !errors.As(err, &agreed) {
		r.group.Abort(err)
	}
	if failed := stop(); failed != nil {
		return fmt.Errorf("mtp: %w", failed)
	}
	if agreed != nil {
		return agreed.error
	}
	return err
}

// agreedError is an error that every rank has at the same place, so that none waits for another.
type agreedError struct{ error }
