package hip

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/drafthead/drafthead/hip/internal/collective"
	"github.com/drafthead/drafthead/hip/internal/fail"
)

// Group is one rank of a group of devices that work on one result. Every rank calls the
// same operations with the same sizes in the same order, each with its own device and
// memory. An operation is queued like a launch, and a [Replayer] records it:
//
//	rank 0   launch ─ AllReduce ─ launch ─ AllGather ─ …
//	               ╲ ╱                    ╲ ╱
//	rank 1   launch ─ AllReduce ─ launch ─ AllGather ─ …
//
// All ranks get the same bytes. GPUs exchange data by RCCL or NCCL, which is looked for at
// run time. Devices of a CPU exchange it in the memory of the process: a sum is then taken
// in the order of the ranks, in float64, and rounded once.
//
// Ranks that differ in an operation, its size or its order, or a rank that does not come,
// would wait for each other for ever. [Group.Watch] bounds that time. A group that failed
// stays failed, on every rank of its process at once and on others by their own time limit:
// every operation returns an error that wraps [ErrGroup] and says why. Close it, and form a
// new one.
//
// A rank's operations must be called in one order, so by one goroutine at a time. The other
// methods may be called by any.
type Group struct {
	device     Device
	rank, size int
	timeout    time.Duration
	links      collective.Communicator
	peers      []*Group // of this process, with itself

	mu     sync.Mutex
	closed bool
}

// GroupID is what the ranks of a group that spans processes have in common. One of them
// makes it by [NewGroupID] and hands it round by whatever the engine has.
type GroupID = collective.ID

// GroupOptions say how a group is formed. The zero value is right for most callers.
type GroupOptions struct {
	// Timeout is how long [Group.Watch] waits for the other ranks. 0: 10 seconds.
	Timeout time.Duration

	// Library is the file, or the folder, of librccl or libnccl. Empty: where the system's
	// loader looks, then where ROCm and CUDA install them. One inside a Python installation
	// must be named here.
	Library string
}

const groupTimeout = 10 * time.Second

// joiner is a device with a library of its own between devices of its kind.
type joiner interface {
	NewGroupID(library string) (GroupID, error)
	// JoinGroup waits until size ranks have joined, or ctx ends.
	JoinGroup(ctx context.Context, library string, id GroupID, rank, size int) (collective.Communicator, error)
}

// NewGroup makes a group of several devices of this process, and returns its ranks in the
// order of the devices. All are GPUs of one vendor, or none is. Close every rank, before
// its device.
func NewGroup(ctx context.Context, devices []Device, options ...GroupOptions) ([]*Group, error) {
	const op = "new group"
	if len(devices) == 0 {
		return nil, &InputError{Op: "hip: " + op, Field: "devices", Got: "none", Want: "at least one"}
	}
	o := groupOptions(options)
	groups := make([]*Group, len(devices))
	joiners := make([]joiner, 0, len(devices))
	for i, d := range devices {
		if d == nil {
			return nil, &InputError{Op: "hip: " + op, Field: fmt.Sprintf("devices[%d]", i), Got: "nil", Want: "a device"}
		}
		if j, ok := As[joiner](d); ok {
			joiners = append(joiners, j)
		}
		groups[i] = &Group{device: d, rank: i, size: len(devices), timeout: o.Timeout, peers: groups}
	}
	switch len(joiners) {
	case 0:
		for i, links := range newMeeting(devices) {
			groups[i].links = links
		}
		return groups, nil
	case len(devices):
	default:
		return nil, &InputError{Op: "hip: " + op, Field: "devices", Got: fmt.Sprintf("%d GPUs and %d others", len(joiners), len(devices)-len(joiners)), Want: "GPUs, or none"}
	}
	id, err := joiners[0].NewGroupID(o.Library)
	if err != nil {
		return nil, fail.With(err, op)
	}
	joinCtx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("not all of %d ranks joined within %v", len(devices), o.Timeout))
	defer cancel()
	errs := make([]error, len(devices))
	var joining sync.WaitGroup
	for i, j := range joiners {
		joining.Go(func() {
			if groups[i].links, errs[i] = j.JoinGroup(joinCtx, o.Library, id, i, len(devices)); errs[i] != nil {
				cancel() // the others would wait for it
			}
		})
	}
	joining.Wait()
	if err := errors.Join(errs...); err != nil {
		for _, g := range groups {
			if g.links != nil {
				g.links.Abort(err)
				if failed := g.links.Close(); failed != nil { // nobody else knows of it: once more
					err = errors.Join(err, failed, g.links.Close())
				}
			}
		}
		return nil, fail.With(err, op)
	}
	return groups, nil
}

// NewGroupID returns an id for a group of GPUs like d. The process must live until all
// ranks have joined. A device that has no library between processes, like a CPU, gives an
// error that wraps [errors.ErrUnsupported].
func NewGroupID(d Device, options ...GroupOptions) (GroupID, error) {
	j, ok := As[joiner](d)
	if !ok {
		return GroupID{}, fail.With(errors.ErrUnsupported, "new group id: %s: a group of CPU devices is one process's, see NewGroup", nameOf(d))
	}
	id, err := j.NewGroupID(groupOptions(options).Library)
	if err != nil {
		err = fail.With(err, "new group id")
	}
	return id, err
}

// JoinGroup makes d one rank of a group of size devices, in this process or in others,
// that have the same id. It waits until all have joined; when ctx ends, or after the
// options' Timeout, it gives up. Close the group before the device.
func JoinGroup(ctx context.Context, d Device, id GroupID, rank, size int, options ...GroupOptions) (*Group, error) {
	const op = "join group"
	switch {
	case size < 1:
		return nil, &InputError{Op: "hip: " + op, Field: "size", Got: size, Want: "at least 1"}
	case rank < 0 || rank >= size:
		return nil, &InputError{Op: "hip: " + op, Field: "rank", Got: rank, Want: fmt.Sprintf("0 to %d", size-1)}
	case id == GroupID{}:
		return nil, &InputError{Op: "hip: " + op, Field: "id", Got: "zero", Want: "one of NewGroupID"}
	}
	j, ok := As[joiner](d)
	if !ok {
		return nil, fail.With(errors.ErrUnsupported, "%s: %s: a group of CPU devices is one process's, see NewGroup", op, nameOf(d))
	}
	o := groupOptions(options)
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("not all of %d ranks joined within %v", size, o.Timeout))
	defer cancel()
	g := &Group{device: d, rank: rank, size: size, timeout: o.Timeout}
	g.peers = []*Group{g}
	var err error
	if g.links, err = j.JoinGroup(ctx, o.Library, id, rank, size); err != nil {
		return nil, fail.With(err, "%s: rank %d of %d", op, rank, size)
	}
	return g, nil
}

func groupOptions(given []GroupOptions) (o GroupOptions) {
	if len(given) > 0 {
		o = given[0]
	}
	if o.Timeout <= 0 {
		o.Timeout = groupTimeout
	}
	return o
}

func nameOf(d Device) string {
	if d == nil {
		return "no device"
	}
	return d.Info().Name
}

// Rank returns the number of this rank, from 0.
func (g *Group) Rank() int { return g.rank }

// Size returns the number of ranks.
func (g *Group) Size() int { return g.size }

// Err returns why the group has failed, or that it is closed; nil while it works.
func (g *Group) Err() error {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed {
		return fail.With(fail.Closed, "group: rank %d of %d", g.rank, g.size)
	}
	if err := g.links.Err(); err != nil {
		return fail.With(&groupError{err}, "rank %d of %d", g.rank, g.size)
	}
	return nil
}

// groupError is an ErrGroup that says why.
type groupError struct{ cause error }

func (e *groupError) Error() string   { return fail.Group.Bare() + ": " + fail.Bare(e.cause) }
func (e *groupError) Unwrap() []error { return []error{fail.Group, e.cause} }

// Abort ends the group: what is queued on any rank of this process ends with an error, and
// so does what comes. Only the first cause counts. It does not wait.
func (g *Group) Abort(cause error) {
	for _, p := range g.peers {
		p.mu.Lock()
		if !p.closed {
			p.links.Abort(cause)
		}
		p.mu.Unlock()
	}
}

// Watch bounds a time in which this rank waits for the others, for example until the
// [Device.Sync] after an operation. When ctx ends, or the group's time limit is over, it
// aborts the group, so that the wait ends. stop ends the time and returns [Group.Err].
func (g *Group) Watch(ctx context.Context) (stop func() error) {
	timer := time.AfterFunc(g.timeout, func() {
		g.Abort(fmt.Errorf("not all ranks have come within %v: one has ended, or was given other work", g.timeout))
	})
	release := context.AfterFunc(ctx, func() { g.Abort(context.Cause(ctx)) })
	return func() error {
		timer.Stop()
		release()
		return g.Err()
	}
}

// Close gives back what the group took, once no graph of a [Replayer] holds an operation of
// it. Other ranks that still wait for this one fail. What could not be given back, which is
// the error then, the next Close gives back. Close of a closed group is [ErrClosed].
func (g *Group) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fail.Closed
	}
	if err := g.links.Close(); err != nil {
		return err
	}
	g.closed = true
	return nil
}
