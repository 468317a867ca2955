package hip

import (
	"math"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// hostThreads returns how many threads a host has, and how long they spin. Under a quota they
// do not spin, since that is paid for, and where nobody asked for a number there are no more
// than the quota keeps busy.
func hostThreads(asked int, quota float64, limited bool) (threads int, spin time.Duration) {
	threads = asked
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
		if limited {
			threads = min(threads, int(math.Ceil(quota)))
		}
	}
	if limited {
		return threads, 0
	}
	return threads, spinTime
}

const (
	// bytesPerThread is the least work of a thread: one more costs a microsecond or two.
	bytesPerThread = 64 << 10
	// triedBytes is the size of launches from which on all threads serve, untried.
	triedBytes = 4 << 20
	// trials is how often each number of threads is tried before one is chosen. The choice
	// stays for chosenLaunches launches, since other work on the machine comes and goes.
	trials         = 7
	chosenLaunches = 1 << 13
)

// crews decides how many threads a launch gets. Launches of little work are faster with
// fewer threads than there are. How many depends on the machine, and on what else it does,
// so it is tried.
type crews struct {
	most int // threads
	mu   sync.RWMutex
	of   map[launchKind]*crew
}

// launchKind stands for launches of one kernel with about as many bytes and threads, which
// round alike.
type launchKind struct {
	kernel               *Kernel
	rounds               Activations
	log2Bytes, log2Worth int
}

// crew is the choice for a kind of launch. The numbers of threads to choose from are those
// that are worth it, half of them, and so on down to one.
type crew struct {
	chosen atomic.Int32 // how often the threads are halved
	left   atomic.Int32 // launches until it is tried anew

	mu    sync.Mutex
	next  int               // the next trial
	times [][]time.Duration // of trials, by how often the threads are halved
}

// launchCrew is the threads of one launch.
type launchCrew struct {
	threads int
	of      *crew // in a trial
	halved  int
	start   time.Time
}

// begin returns how many threads a launch gets.
func (c *crews) begin(k *Kernel, grid Grid) launchCrew {
	bytes := float64(grid.Blocks) * float64(max(grid.BlockCost, 1))
	worth := max(1, min(c.most, grid.Blocks, int(bytes/bytesPerThread)))
	if worth == 1 || bytes >= triedBytes {
		return launchCrew{threads: worth}
	}
	crew := c.find(launchKind{k, grid.Activations, bits.Len(uint(bytes)), bits.Len(uint(worth))})
	halved, trial := crew.begin()
	l := launchCrew{threads: max(1, worth>>halved)}
	if trial {
		l.of, l.halved, l.start = crew, halved, time.Now()
	}
	return l
}

// end is called after the launch.
func (l *launchCrew) end() {
	if l.of != nil {
		l.of.end(l.halved, time.Since(l.start))
	}
}

func (c *crews) find(kind launchKind) *crew {
	c.mu.RLock()
	found := c.of[kind]
	c.mu.RUnlock()
	if found != nil {
		return found
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[kind] == nil {
		if c.of == nil {
			c.of = make(map[launchKind]*crew)
		}
		c.of[kind] = newCrew(kind.log2Worth)
	}
	return c.of[kind]
}

// newCrew returns a crew that is to choose from so many numbers of threads.
func newCrew(choices int) *crew {
	c := &crew{times: make([][]time.Duration, choices)}
	for i := range c.times {
		c.times[i] = make([]time.Duration, 0, trials)
	}
	return c
}

// begin returns how often the threads are halved, and whether the launch is a trial.
func (c *crew) begin() (halved int, trial bool) {
	if c.left.Add(-1) >= 0 {
		return int(c.chosen.Load()), false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left.Load() > 0 { // another trial has just decided
		return int(c.chosen.Load()), false
	}
	c.left.Store(0) // far from the least number there is
	c.next++
	return c.next % len(c.times), true
}

// end takes the time of a trial. After the last one the median decides; fewer threads win
// unless more are faster by a twentieth.
func (c *crew) end(halved int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.times[halved]) < trials {
		c.times[halved] = append(c.times[halved], took)
	}
	best, least := 0, time.Duration(math.MaxInt64)
	for h, times := range slices.Backward(c.times) {
		if len(times) < trials {
			return
		}
		slices.Sort(times)
		if median := times[trials/2]; median < least-least/20 {
			best, least = h, median
		}
	}
	for h := range c.times {
		c.times[h] = c.times[h][:0]
	}
	c.chosen.Store(int32(best))
	c.left.Store(chosenLaunches)
}
