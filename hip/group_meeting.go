package hip

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/drafthead/drafthead/hip/internal/collective"
	"github.com/drafthead/drafthead/hip/internal/fail"
)

// meeting is a group of CPU devices of this process. Each rank reads what it gives from its
// device, and the one that comes last computes the result, which all write to theirs:
//
//	rank 0   read ──┐            ┌── write
//	rank 1   read ──┤  combine ──┼── write
//	rank 2   read ──┘            └── write
//
// A rank may be an operation ahead of another, so there may be several rounds at a time.
type meeting struct {
	size int

	mu     sync.Mutex
	rounds map[int]*round // that not all have come to, by their number
	gone   map[int]error  // ranks that have left, which no later round may wait for
	err    error
	failed chan struct{} // closed once err is there
}

// round is one operation.
type round struct {
	what   string // the first rank's operation and size
	first  int    // that rank
	parts  [][]byte
	here   []bool // the ranks that have come
	came   int
	result []byte
	ready  chan struct{} // closed once result is there
}

// member is a rank of a meeting.
type member struct {
	*meeting
	device Device
	rank   int
	next   int // number of its next round
}

func newMeeting(devices []Device) (members []collective.Communicator) {
	m := &meeting{size: len(devices), rounds: make(map[int]*round), gone: make(map[int]error), failed: make(chan struct{})}
	for rank, d := range devices {
		members = append(members, &member{meeting: m, device: d, rank: rank})
	}
	return members
}

// meet gives a rank's part of the next round and returns the result of all.
func (m *member) meet(what string, part []byte, combine func(parts [][]byte) []byte) ([]byte, error) {
	m.mu.Lock()
	if m.err != nil {
		defer m.mu.Unlock()
		return nil, m.err
	}
	number := m.next
	m.next++
	r := m.rounds[number]
	if r == nil {
		r = &round{what: what, first: m.rank, parts: make([][]byte, m.size), here: make([]bool, m.size), ready: make(chan struct{})}
		m.rounds[number] = r
	}
	if r.what != what {
		err := fmt.Errorf("operation %d is %s on rank %d and %s on rank %d: the ranks were given different work", number, r.what, r.first, what, m.rank)
		m.fail(err)
		m.mu.Unlock()
		return nil, err
	}
	r.parts[m.rank], r.here[m.rank] = part, true
	if r.came++; r.came == m.size {
		r.result = combine(r.parts)
		delete(m.rounds, number)
		close(r.ready)
	}
	m.checkGone()
	m.mu.Unlock()
	select {
	case <-r.ready:
		return r.result, nil
	case <-m.failed:
	}
	select {
	case <-r.ready: // both: it was in time
		return r.result, nil
	default:
		return nil, m.err
	}
}

// checkGone ends the meeting if a rank waits for one that has left, with mu held.
func (m *meeting) checkGone() {
	for _, r := range m.rounds {
		for rank, err := range m.gone {
			if !r.here[rank] {
				m.fail(m.waiting(err))
			}
		}
	}
}

// fail ends the meeting, with mu held.
func (m *meeting) fail(err error) {
	if m.err == nil {
		m.err = err
		close(m.failed)
	}
}

func (m *member) read(p uint64, n int64) ([]byte, error) {
	mem := make([]byte, n)
	return mem, m.device.Read(mem, Ptr(p))
}

func (m *member) AllReduce(_ uintptr, p uint64, n int64, bfloat16 bool) error {
	what, size, combine := fmt.Sprintf("an all-reduce of %d float32", n), int64(4), sumFloat32
	if bfloat16 {
		what, size, combine = fmt.Sprintf("an all-reduce of %d bfloat16", n), 2, sumBF16
	}
	part, err := m.read(p, n*size)
	if err != nil {
		return err
	}
	sum, err := m.meet(what, part, combine)
	if err != nil {
		return err
	}
	return m.device.Write(Ptr(p), sum)
}

func (m *member) AllGather(_ uintptr, dst, src uint64, n int64) error {
	part, err := m.read(src, n)
	if err != nil {
		return err
	}
	all, err := m.meet(fmt.Sprintf("an all-gather of %d bytes", n), part, func(parts [][]byte) []byte { return slices.Concat(parts...) })
	if err != nil {
		return err
	}
	return m.device.Write(Ptr(dst), all)
}

func (m *member) Broadcast(_ uintptr, p uint64, n int64, root int) error {
	var part []byte
	var err error
	if m.rank == root {
		if part, err = m.read(p, n); err != nil {
			return err
		}
	}
	result, err := m.meet(fmt.Sprintf("a broadcast of %d bytes from rank %d", n, root), part, func(parts [][]byte) []byte { return parts[root] })
	if err != nil || m.rank == root {
		return err
	}
	return m.device.Write(Ptr(p), result)
}

func (m *member) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Abort adds which ranks the others wait for.
func (m *member) Abort(cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.fail(m.waiting(cause))
	}
}

func (m *meeting) waiting(cause error) error {
	oldest := -1
	for number := range m.rounds {
		if oldest < 0 || number < oldest {
			oldest = number
		}
	}
	if oldest < 0 {
		return cause
	}
	var missing []string
	r := m.rounds[oldest]
	for rank, here := range r.here {
		if !here {
			missing = append(missing, fmt.Sprint(rank))
		}
	}
	return fmt.Errorf("%w; rank %d waits at %s for rank %s", cause, r.first, r.what, strings.Join(missing, ", "))
}

// Close makes ranks fail that wait for this one, now or later. What all have come to counts.
func (m *member) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone[m.rank] = fail.With(fail.Closed, "rank %d has left the group", m.rank)
	m.checkGone()
	return nil
}

func sumFloat32(parts [][]byte) []byte {
	return sumOf(parts, func(v float32) float64 { return float64(v) }, func(v float64) float32 { return float32(v) })
}

func sumBF16(parts [][]byte) []byte {
	return sumOf(parts, func(v BF16) float64 { return float64(v.Float32()) }, func(v float64) BF16 { return ToBF16(float32(v)) })
}

// sumOf adds up values in the order of the ranks, in float64. The sum is rounded once to
// float32, and a bfloat16 from there.
func sumOf[T any](parts [][]byte, widen func(T) float64, narrow func(float64) T) []byte {
	result := make([]byte, len(parts[0]))
	sums, values := valuesOf[T](result), make([][]T, len(parts))
	for rank, part := range parts {
		values[rank] = valuesOf[T](part)
	}
	for i := range sums {
		sum := 0.0
		for _, v := range values {
			sum += widen(v[i])
		}
		sums[i] = narrow(sum)
	}
	return result
}

// valuesOf returns bytes that the program has allocated, which are aligned, as values.
func valuesOf[T any](bytes []byte) []T {
	var v T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(bytes))), len(bytes)/int(unsafe.Sizeof(v)))
}
