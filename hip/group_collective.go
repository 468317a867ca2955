package hip

import (
	"fmt"
	"math"

	"github.com/drafthead/drafthead/hip/internal/collective"
	"github.com/drafthead/drafthead/hip/internal/fail"
)

// collection is an operation of a group.
type collection struct {
	op       int
	dst, src Ptr
	n        int64 // of bytes that one rank gives
	root     int
}

const (
	reduceFloat32 = iota
	reduceBFloat16
	gather
	broadcast
)

// AllReduce replaces the n float32 values at p by their sums over all ranks, in the order
// of d: the group's device, or the one that a [Replayer] calls a function with.
func (g *Group) AllReduce(d Device, p Ptr, n int) error {
	return g.queue(d, collection{op: reduceFloat32, dst: p, src: p, n: bytesFor(n, 4)})
}

// AllReduceBF16 is AllReduce of bfloat16 values.
func (g *Group) AllReduceBF16(d Device, p Ptr, n int) error {
	return g.queue(d, collection{op: reduceBFloat16, dst: p, src: p, n: bytesFor(n, 2)})
}

// AllGather copies the n bytes at src of every rank to dst, [size, n], in the order of the
// ranks. The ranges must not overlap.
func (g *Group) AllGather(d Device, dst, src Ptr, n int) error {
	return g.queue(d, collection{op: gather, dst: dst, src: src, n: int64(n)})
}

// Broadcast copies the n bytes at p of rank root to p of every rank.
func (g *Group) Broadcast(d Device, p Ptr, n, root int) error {
	if root < 0 || root >= g.size {
		return &InputError{Op: "hip: broadcast", Field: "root", Got: root, Want: fmt.Sprintf("0 to %d", g.size-1)}
	}
	return g.queue(d, collection{op: broadcast, dst: p, src: p, n: int64(n), root: root})
}

func bytesFor(n, size int) int64 {
	if n < 0 || int64(n) > math.MaxInt64/int64(size) {
		return -1
	}
	return int64(n) * int64(size)
}

// collector is a device that notes operations in place of running them.
type collector interface {
	collect(g *Group, c *collection) error
}

func (g *Group) queue(d Device, c collection) error {
	if c.n < 0 || c.n > math.MaxInt64/int64(g.size) {
		return &InputError{Op: "hip: " + c.name(), Field: "n", Got: c.n, Want: "the size of memory"}
	}
	if c.n == 0 {
		return nil
	}
	if to, ok := d.(collector); ok {
		return to.collect(g, &c)
	}
	if err := g.Err(); err != nil {
		return err
	}
	if err := g.check(&c); err != nil {
		return err
	}
	if err := c.run(g.links, g.streamOf(d)); err != nil {
		if failed := g.Err(); failed != nil {
			return failed
		}
		return fail.With(err, "%s: rank %d of %d", c.name(), g.rank, g.size)
	}
	return nil
}

type streamer interface{ Stream() uintptr }

// streamOf returns where d queues work. A device that does not say, since it wraps the
// group's, queues where that does.
func (g *Group) streamOf(d Device) uintptr {
	for _, d := range []Device{d, g.device} {
		if s, ok := As[streamer](d); ok {
			return s.Stream()
		}
	}
	return 0
}

// check returns an error unless the device knows the memory, if it can tell.
func (g *Group) check(c *collection) error {
	d, ok := As[rangeChecker](g.device)
	if !ok {
		return nil
	}
	if err := d.CheckRange(c.src, c.n, c.op != gather); err != nil || c.op != gather {
		return err
	}
	return d.CheckRange(c.dst, c.n*int64(g.size), true)
}

func (c *collection) run(links collective.Communicator, stream uintptr) error {
	switch c.op {
	case gather:
		return links.AllGather(stream, uint64(c.dst), uint64(c.src), c.n)
	case broadcast:
		return links.Broadcast(stream, uint64(c.dst), c.n, c.root)
	case reduceBFloat16:
		return links.AllReduce(stream, uint64(c.dst), c.n/2, true)
	}
	return links.AllReduce(stream, uint64(c.dst), c.n/4, false)
}

func (c *collection) name() string {
	return [...]string{"all-reduce", "all-reduce of bfloat16", "all-gather", "broadcast"}[c.op]
}

// Exchange gives every rank the bytes of all ranks, in their order, by an [Group.AllGather]
// over memory of its own. All ranks give equally many. It waits for the result, and
// [Group.Watch] bounds that time.
func (g *Group) Exchange(own []byte) (all [][]byte, err error) {
	n := len(own)
	if n == 0 {
		return make([][]byte, g.size), g.Err()
	}
	var memory Buffer
	if err := memory.Grow(g.device, n, g.size+1); err != nil {
		return nil, err
	}
	defer func() {
		if failed := memory.Free(g.device); err == nil && failed != nil {
			all, err = nil, failed
		}
	}()
	to := memory.Ptr()
	from := to.Add(int64(n) * int64(g.size))
	if err := g.device.Write(from, own); err != nil {
		return nil, err
	}
	if err := g.AllGather(g.device, to, from, n); err != nil {
		return nil, err
	}
	bytes := make([]byte, n*g.size)
	if err := g.device.Read(bytes, to); err != nil {
		return nil, err
	}
	if err := g.Err(); err != nil { // an aborted operation leaves anything
		return nil, err
	}
	for ; len(bytes) > 0; bytes = bytes[n:] {
		all = append(all, bytes[:n:n])
	}
	return all, nil
}
