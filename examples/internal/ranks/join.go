package ranks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// patience is how long ranks in several processes wait for each other: they are started by
// hand, and load from a disk.
const patience = 30 * time.Second

// join makes d the rank of a group whose other ranks are other processes. Rank 0 writes the
// id of the group into a file that must not exist, and removes it once all have joined:
// so the next group may have the same one.
func (l Layout) join(ctx context.Context, d hip.Device) (group *hip.Group, err error) {
	options := hip.GroupOptions{Timeout: patience, Library: l.library}
	var id hip.GroupID
	if l.Rank == 0 {
		if id, err = hip.NewGroupID(d, options); errors.Is(err, errors.ErrUnsupported) {
			return nil, fmt.Errorf("-group is for GPUs: %w", err)
		} else if err != nil {
			return nil, err
		}
		if err := l.writeID(id); err != nil {
			return nil, fmt.Errorf("-group: %w", err)
		}
		defer os.Remove(l.Group)
	} else if id, err = l.readID(ctx); err != nil {
		return nil, fmt.Errorf("-group: %w", err)
	}
	if group, err = hip.JoinGroup(ctx, d, id, l.Rank, l.Ranks(), options); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, group.Close())
			group = nil
		}
	}()
	if l.Rank == 0 {
		if err := os.Remove(l.Group); err != nil {
			return nil, fmt.Errorf("-group: %w", err)
		}
	}
	_, err = All(ctx, &Rank{Number: l.Rank, layout: l, group: group}, 0) // no rank goes on before it is removed
	return group, err
}

// writeID writes the id so that nobody reads half of it.
func (l Layout) writeID(id hip.GroupID) error {
	if _, err := os.Lstat(l.Group); err == nil {
		return fmt.Errorf("%s exists, want a new name: it is left of processes that have ended", safetensors.Printable(l.Group))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	part := l.Group + ".new"
	if err := os.WriteFile(part, id[:], 0o600); err != nil {
		return err
	}
	return os.Rename(part, l.Group)
}

// readID waits for the id.
func (l Layout) readID(ctx context.Context) (id hip.GroupID, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("rank 0 has not written %s within %v", safetensors.Printable(l.Group), patience))
	defer cancel()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		text, err := os.ReadFile(l.Group)
		switch {
		case err == nil && len(text) == len(id):
			return hip.GroupID(text), nil
		case err == nil:
			return id, fmt.Errorf("%s has %d bytes, want the %d of a group's id", safetensors.Printable(l.Group), len(text), len(id))
		case !errors.Is(err, fs.ErrNotExist):
			return id, err
		}
		select {
		case <-ctx.Done():
			return id, context.Cause(ctx)
		case <-look.C:
		}
	}
}
