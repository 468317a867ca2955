package hip

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/drafthead/drafthead/hip/internal/memory"
	"github.com/drafthead/drafthead/hip/internal/registry"
)

// NewHost returns the CPU device: a pool of workers that use the best vector instructions
// of the machine. threads is how many workers there are, including the calling goroutine;
// at most one value may be given. 0, or none, stands for one per usable core (GOMAXPROCS at
// the time of the call), and under a CPU quota of Linux for no more than it keeps busy.
// Launches of several goroutines share the workers, and one of little work takes as few as
// were fastest. Close ends them.
func NewHost(threads ...int) Device {
	n := 0
	if len(threads) > 0 {
		n = threads[0]
	}
	return newHost(HostOptions{Threads: n}, bestSIMD())
}

// HostOptions say what [OpenHost] opens. The zero value is what [NewHost] returns.
type HostOptions struct {
	// Threads is how many workers there are, including the calling goroutine. 0, or less:
	// as [NewHost] has it.
	Threads int

	// Activations is how products round the rows that they multiply with weights:
	// [ActivationsExact], [ActivationsBF16x2] or [ActivationsBF16]. It counts where the
	// processor multiplies bfloat16, see [SIMDAVX512BF16], and the weights have no more
	// bits; elsewhere products are exact, as are those of one row with fewer than four
	// rows of bfloat16 weights that lie apart from others. With [SIMDNEONBF16]
	// ActivationsBF16 counts, not ActivationsBF16x2.
	Activations Activations
}

// OpenHost returns the CPU device, as [NewHost] does, with options. A value that
// Activations cannot have is an [InputError].
func OpenHost(o HostOptions) (Device, error) {
	if !o.Activations.ofHost() {
		return nil, &InputError{Op: "hip: open host", Field: "Activations", Got: o.Activations,
			Want: "ActivationsExact, ActivationsBF16x2 or ActivationsBF16; a head rounds to MXFP8 by mtp.Options.Activations"}
	}
	return newHost(o, bestSIMD()), nil
}

// Tests of every level of vector instructions make hosts that are bounded to it.
func init() {
	registry.SetHost(func(threads, level, activations int) any {
		return newHost(HostOptions{threads, Activations(activations)}, boundedSIMD(SIMD(level)))
	})
}

func newHost(o HostOptions, simd SIMD) Device {
	quota, limited := cpuQuota()
	threads, spin := hostThreads(o.Threads, quota, limited)
	o.Activations = simd.rounding(o.Activations)
	h := &host{cpu: cpu{mem: memory.New()}, crews: crews{most: threads}, spin: spin, simd: simd}
	h.info = Info{Name: fmt.Sprintf("CPU, %d threads, %v", threads, simd), Kind: "cpu", Threads: threads, Activations: o.Activations}
	if o.Activations != ActivationsExact {
		h.info.Name += fmt.Sprintf(", %v activations", o.Activations)
	}
	h.jobs = make(chan *job, threads)
	for range threads - 1 {
		h.workers.Add(1)
		go h.work()
	}
	return h
}

type host struct {
	cpu
	info    Info
	crews   crews
	spin    time.Duration // how long workers do
	simd    SIMD
	jobs    chan *job // a job is sent once per helper it may use
	workers sync.WaitGroup
	scratch sync.Pool    // *scratch, of workers
	common  sync.Pool    // *scratch, of launches, see [Share]
	using   sync.RWMutex // held for reading during a launch, for writing by Close
}

// job is one launch, cut into parts that workers take in turn.
type job struct {
	kernel *Kernel
	run    func(*Blocks, unsafe.Pointer)
	args   unsafe.Pointer
	rounds Activations
	blocks int
	least  int // blocks of a part, but for the last
	split  int // a part is at most 1/split of what is left

	next   atomic.Int64 // first block that nobody took
	left   atomic.Int64 // blocks that are not done
	failed atomic.Bool
	err    error         // set by the worker that sets failed
	done   chan struct{} // gets a value when left falls to 0
	shared shared
}

const (
	// bytesPerPart is the least size of a part: small enough that threads end together,
	// large enough that taking one costs nothing.
	bytesPerPart = 128 << 10
	// spinTime is how long a worker without a job, and a launch that waits for its last
	// parts, spin before they sleep. It is longer than the time between two launches of a
	// step, far shorter than what dozens of sleeps and wakes would cost a step, and short
	// enough to leave the cores to others.
	spinTime = 50 * time.Microsecond
)

func (h *host) Info() Info { return h.info }

func (h *host) Launch(k *Kernel, grid Grid, args unsafe.Pointer) error {
	if err := checkGrid(k, grid); err != nil {
		return err
	}
	h.using.RLock()
	defer h.using.RUnlock()
	if err := h.Sync(); err != nil {
		return err
	}
	j := &job{kernel: k, run: k.twin, args: args, rounds: h.info.Activations, blocks: grid.Blocks, least: grid.Blocks, split: 1}
	if a := grid.Activations; a != ActivationsExact && a.ofHost() {
		j.rounds = h.simd.rounding(a)
	}
	if k.fast != nil {
		j.run = k.fast
	}
	j.shared.pool, j.shared.spin = &h.common, h.spin
	j.left.Store(int64(j.blocks))
	crew := h.crews.begin(k, grid)
	if crew.threads > 1 {
		j.least = max(1, bytesPerPart/max(grid.BlockCost, 1))
		j.split = 2 * crew.threads
		j.done = make(chan struct{}, 1)
		h.invite(j, crew.threads-1)
	}
	h.runParts(j)
	h.wait(j)
	crew.end()
	j.shared.end()
	if j.failed.Load() {
		return j.err
	}
	return nil
}

// invite offers the job to helpers. When all are busy with other launches the
// caller does it alone: launches never wait for each other.
func (h *host) invite(j *job, helpers int) {
	for range helpers {
		select {
		case h.jobs <- j:
		default:
			return
		}
	}
}

func (h *host) work() {
	defer h.workers.Done()
	for {
		j, open := h.nextJob()
		if !open {
			return
		}
		h.runParts(j)
	}
}

// nextJob looks for a job for a while and then sleeps until there is one.
func (h *host) nextJob() (j *job, open bool) {
	spin(h.spin, func() bool {
		select {
		case j, open = <-h.jobs:
			return true
		default:
			return false
		}
	})
	if j == nil {
		j, open = <-h.jobs
	}
	return j, open
}

// wait returns when all blocks of the job are done.
func (h *host) wait(j *job) {
	if !spin(h.spin, func() bool { return j.left.Load() == 0 }) {
		<-j.done
	}
}

// spin calls news until it returns true or the time is over, and returns what it returned
// last.
func spin(most time.Duration, news func() bool) bool {
	if news() {
		return true
	}
	for start := time.Now(); time.Since(start) < most; {
		for range 32 {
			if news() {
				return true
			}
		}
	}
	return false
}

// take returns the next part; none is left when first = end.
func (j *job) take() (first, end int) {
	for {
		at := j.next.Load()
		rest := j.blocks - int(at)
		n := min(rest, max(j.least, rest/j.split))
		if n == 0 || j.next.CompareAndSwap(at, at+int64(n)) {
			return int(at), int(at) + n
		}
	}
}

// runParts does parts until none is left. After a failure parts are only counted.
func (h *host) runParts(j *job) {
	s, _ := h.scratch.Get().(*scratch)
	if s == nil {
		s = new(scratch)
	}
	s.begin()
	defer h.scratch.Put(s)
	for {
		first, end := j.take()
		if first == end {
			return
		}
		if !j.failed.Load() {
			s.reset()
			b := Blocks{First: first, End: end, mem: h.mem, scratch: s, shared: &j.shared, simd: h.simd, activations: j.rounds}
			if err := runBlocks(j.kernel, j.run, &b, j.args); err != nil && j.failed.CompareAndSwap(false, true) {
				j.err = err
			}
		}
		if j.left.Add(int64(first-end)) == 0 && j.done != nil {
			j.done <- struct{}{}
		}
	}
}

// Close waits for the launches under way, then ends the workers.
func (h *host) Close() error {
	h.using.Lock()
	defer h.using.Unlock()
	if !h.mem.Close() {
		return ErrClosed
	}
	close(h.jobs)
	h.workers.Wait()
	return nil
}
