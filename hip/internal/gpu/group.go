package gpu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/drafthead/drafthead/hip/internal/collective"
	"github.com/drafthead/drafthead/hip/internal/fail"
)

// NewGroupID is a method that hip.NewGroupID looks for.
func (g *device) NewGroupID(library string) (collective.ID, error) {
	l, err := openGroupLibrary(g.driver.platform, library)
	if err != nil {
		return collective.ID{}, err
	}
	return l.newID()
}

// communicator is a device's side of a group of RCCL or NCCL.
//
// The library's calls may wait for other ranks, and so may the stream. Nothing that another
// rank, Abort or Close needs is held meanwhile but the device's using, for reading. An abort
// waits, in the library, until graphs that hold operations are gone; so it has a goroutine
// of its own.
type communicator struct {
	gpu     *device
	library *groupLibrary
	handle  uintptr // ncclComm_t

	mu    sync.RWMutex
	cause error         // of the abort
	gone  chan struct{} // closed when the library has given all back
	left  error         // what that said

	failed bool // Close has returned left
}

// JoinGroup is a method that hip.JoinGroup looks for. When ctx ends first, the library
// waits on, on a thread of its own, and what it then returns is aborted.
func (g *device) JoinGroup(ctx context.Context, library string, id collective.ID, rank, size int) (collective.Communicator, error) {
	l, err := openGroupLibrary(g.driver.platform, library)
	if err != nil {
		return nil, err
	}
	c := &communicator{gpu: g, library: l, gone: make(chan struct{})}
	joined := make(chan error, 1)
	go func() {
		joined <- c.current("join group", func() error { return l.join(&c.handle, &id, rank, size) })
	}()
	select {
	case err := <-joined:
		if err != nil {
			return nil, err
		}
	case <-ctx.Done():
		cause := context.Cause(ctx)
		go func() {
			if <-joined == nil {
				c.Abort(cause)
				if c.Close() != nil {
					_ = c.Close() // nobody else knows of it: once more
				}
			}
		}()
		return nil, cause
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.groups[c] = struct{}{}
	return c, nil
}

// current runs a call of the library with the device current. It may wait for other ranks,
// so it keeps nobody from closing the device: release waits for groups itself.
func (c *communicator) current(op string, call func() error) error {
	t, err := c.gpu.selectDevice(op)
	if err != nil {
		return err
	}
	defer c.gpu.deselect(t)
	return call()
}

// queue queues an operation, unless the group was aborted.
func (c *communicator) queue(op string, stream uintptr, call func() error) error {
	if err := c.aborted(); err != nil {
		return err
	}
	g := c.gpu
	t, err := g.enter(op)
	if err != nil {
		return err
	}
	defer g.leave(t)
	if err := call(); err != nil || !g.blocking || stream != g.stream {
		return g.noted(err)
	}
	return g.waitForAll(op)
}

// Types and operations of the library.
const (
	groupUint8, groupFloat32, groupBFloat16 = 1, 7, 9
	groupSum                                = 0
)

func (c *communicator) AllReduce(stream uintptr, p uint64, n int64, bfloat16 bool) error {
	kind := uintptr(groupFloat32)
	if bfloat16 {
		kind = groupBFloat16
	}
	return c.queue("all-reduce", stream, func() error {
		return c.library.call("all-reduce", groupAllReduce, uintptr(p), uintptr(p), uintptr(n), kind, groupSum, c.handle, stream)
	})
}

func (c *communicator) AllGather(stream uintptr, dst, src uint64, n int64) error {
	return c.queue("all-gather", stream, func() error {
		return c.library.call("all-gather", groupAllGather, uintptr(src), uintptr(dst), uintptr(n), groupUint8, c.handle, stream)
	})
}

func (c *communicator) Broadcast(stream uintptr, p uint64, n int64, root int) error {
	return c.queue("broadcast", stream, func() error {
		return c.library.call("broadcast", groupBroadcast, uintptr(p), uintptr(p), uintptr(n), groupUint8, uintptr(root), c.handle, stream)
	})
}

// aborted returns the cause of the abort, if there was one.
func (c *communicator) aborted() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.cause
}

// Err asks the library too, which may have noticed that a rank is gone.
func (c *communicator) Err() error {
	c.mu.RLock() // no abort begins meanwhile
	defer c.mu.RUnlock()
	if c.cause != nil {
		return c.cause
	}
	const inProgress = 7
	state := new(int32)
	if err := c.library.call("group", groupAsyncError, c.handle, uintptr(unsafe.Pointer(state))); err != nil {
		return err
	}
	if *state != 0 && *state != inProgress {
		return c.library.failed("group", groupAsyncError, *state)
	}
	return nil
}

func (c *communicator) Abort(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = cause
		go c.giveBack(groupAbort)
	}
}

// giveBack is called once, by Abort or Close, or again by a Close after it failed.
func (c *communicator) giveBack(how groupCall) {
	err := c.current("close group", func() error { return c.library.call("close group", how, c.handle) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = err
	close(c.gone)
}

// groupPatience is how long Close waits for graphs to be closed and for other ranks.
const groupPatience = 10 * time.Second

func (c *communicator) Close() error {
	c.mu.Lock()
	switch {
	case c.cause == nil:
		c.cause = fail.Closed
		go c.giveBack(groupDestroy)
	case c.failed: // the last time
		c.gone, c.failed = make(chan struct{}), false
		go c.giveBack(groupAbort)
	}
	c.mu.Unlock()
	if err := c.wait(); err != nil {
		return err
	}
	c.mu.Lock()
	left := c.left
	c.failed = left != nil
	c.mu.Unlock() // Abort takes it after the device's
	if left != nil {
		return left
	}
	c.gpu.mu.Lock()
	defer c.gpu.mu.Unlock()
	delete(c.gpu.groups, c)
	return nil
}

// wait waits until the library has given all back.
func (c *communicator) wait() error {
	c.mu.RLock()
	gone := c.gone
	c.mu.RUnlock()
	select {
	case <-gone:
		return nil
	case <-time.After(groupPatience):
		return fail.With(errors.New("graphs still hold operations of the group"), "close group: not done within %v", groupPatience)
	}
}

// abortGroups ends what the device waits for, so that it can be closed.
func (g *device) abortGroups() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.groups {
		c.Abort(fmt.Errorf("%s was closed before its group", g.about.Name))
	}
}
