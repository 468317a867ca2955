package hip

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// NewHost returns the CPU device: a pool of one worker per usable core
// (GOMAXPROCS at the time of the call), the calling goroutine among them.
// Launches of several goroutines share the workers. Close ends them.
func NewHost() Device {
	return NewHostThreads(runtime.GOMAXPROCS(0))
}

// NewHostThreads is [NewHost] with a given number of workers, at least one.
func NewHostThreads(threads int) Device {
	h := &host{cpu: cpu{mem: newMemory()}, threads: max(threads, 1)}
	h.jobs = make(chan *job, h.threads)
	for range h.threads - 1 {
		h.workers.Add(1)
		go h.work()
	}
	return h
}

type host struct {
	cpu
	threads int
	jobs    chan *job // a job is sent once per helper it may use
	workers sync.WaitGroup
	scratch sync.Pool    // *scratch
	using   sync.RWMutex // held for reading during a launch, for writing by Close
}

// job is one launch, cut into parts that workers take one after the other.
type job struct {
	kernel *Kernel
	run    func(*Blocks, unsafe.Pointer)
	args   unsafe.Pointer
	blocks int
	part   int // blocks of a part

	next    atomic.Int64 // first block that nobody took
	failed  atomic.Bool
	err     error // set by the worker that sets failed
	helpers sync.WaitGroup
}

const (
	// bytesPerThread is how much work makes waking another thread worth its
	// few microseconds.
	bytesPerThread = 64 << 10
	// partsPerThread evens out threads that the machine slows down.
	partsPerThread = 4
)

func (h *host) Info() Info {
	return Info{Name: fmt.Sprintf("CPU, %d threads", h.threads), Kind: "cpu", Threads: h.threads}
}

func (h *host) Launch(k *Kernel, grid Grid, args unsafe.Pointer) error {
	if err := checkGrid(k, grid); err != nil {
		return err
	}
	h.using.RLock()
	defer h.using.RUnlock()
	if err := h.Sync(); err != nil {
		return err
	}
	j := &job{kernel: k, run: k.twin, args: args, blocks: grid.Blocks, part: grid.Blocks}
	if k.fast != nil {
		j.run = k.fast
	}
	threads := h.worth(grid)
	if threads > 1 {
		j.part = max(1, (grid.Blocks+threads*partsPerThread-1)/(threads*partsPerThread))
		h.invite(j, threads-1)
	}
	h.runParts(j)
	j.helpers.Wait()
	if j.failed.Load() {
		return j.err
	}
	return nil
}

// worth returns how many threads the launch can keep busy.
func (h *host) worth(grid Grid) int {
	bytes := float64(grid.Blocks) * float64(max(grid.BlockCost, 1))
	return max(1, min(h.threads, grid.Blocks, int(bytes/bytesPerThread)))
}

// invite offers the job to idle workers. When all are busy with other launches
// the caller does it alone: launches never wait for each other.
func (h *host) invite(j *job, helpers int) {
	for range helpers {
		j.helpers.Add(1)
		select {
		case h.jobs <- j:
		default:
			j.helpers.Done()
			return
		}
	}
}

func (h *host) work() {
	defer h.workers.Done()
	for j := range h.jobs {
		h.runParts(j)
		j.helpers.Done()
	}
}

func (h *host) runParts(j *job) {
	s, _ := h.scratch.Get().(*scratch)
	if s == nil {
		s = new(scratch)
	}
	defer h.scratch.Put(s)
	for !j.failed.Load() {
		first := int(j.next.Add(int64(j.part))) - j.part
		if first >= j.blocks {
			return
		}
		s.reset()
		b := Blocks{First: first, End: min(first+j.part, j.blocks), mem: h.mem, scratch: s}
		if err := runBlocks(j.kernel, j.run, &b, j.args); err != nil && j.failed.CompareAndSwap(false, true) {
			j.err = err
		}
	}
}

// Close waits for the launches under way, then ends the workers.
func (h *host) Close() error {
	h.using.Lock()
	defer h.using.Unlock()
	if !h.mem.close() {
		return ErrClosed
	}
	close(h.jobs)
	h.workers.Wait()
	return nil
}
