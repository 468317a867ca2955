package hip

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"unsafe"
)

// memory is a device's table of live allocations. On a CPU it maps addresses to
// the Go memory behind them: an address is a key into this table and never
// turned into a pointer, so a wrong one is found. For a GPU it knows the ranges
// alone. Lookups are lock-free over an immutable sorted snapshot.
type memory struct {
	mu      sync.Mutex
	regions atomic.Pointer[[]region] // sorted by base; never changed in place
	bytes   int64                    // allocated, without adopted
	removed atomic.Uint64            // how often a region was
}

type region struct {
	base     Ptr
	size     int64
	mem      []byte // nil where the memory is a GPU's alone
	writable bool
	adopted  bool // the caller's memory
	refs     int  // how many adoptions Free has to end
}

func (r *region) end() Ptr { return r.base + Ptr(r.size) }

// at returns the n bytes at p, of the region's Go memory.
func (r *region) at(p Ptr, n int64) []byte {
	off := int64(p - r.base)
	return r.mem[off : off+n : off+n]
}

// goRegion is a region of Go memory under an address of its own or of a mirror.
func goRegion(base Ptr, mem []byte, writable, adopted bool) region {
	return region{base: base, size: int64(len(mem)), mem: mem, writable: writable, adopted: adopted}
}

func newMemory() *memory {
	m := new(memory)
	m.regions.Store(new([]region))
	return m
}

const allocAlign = 64

func (m *memory) alloc(n int64) (Ptr, error) {
	if n == 0 {
		return 0, nil
	}
	if n < 0 || n > maxAlloc {
		return 0, &MemoryError{Bytes: n}
	}
	raw, err := zeroed(n + allocAlign - 1)
	if err != nil {
		return 0, &MemoryError{Bytes: n}
	}
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(raw))) & (allocAlign - 1)
	mem := raw[skip : int64(skip)+n : int64(skip)+n]
	return m.insert(goRegion(address(mem), mem, true, false))
}

// maxAlloc is more than any device has.
const maxAlloc = 1 << 40

// zeroed is make with an error: make ends the process where memory is short.
func zeroed(n int64) ([]byte, error) {
	const sure = 64 << 20 // bytes that are not asked for first, and that Go may take beside n
	if n > sure && !systemHas(n+sure) {
		return nil, &MemoryError{Bytes: n}
	}
	return make([]byte, n), nil
}

func address(mem []byte) Ptr {
	return Ptr(uintptr(unsafe.Pointer(unsafe.SliceData(mem))))
}

func (m *memory) adopt(mem []byte, writable bool) (Ptr, error) {
	if len(mem) == 0 {
		return 0, nil
	}
	return m.insert(goRegion(address(mem), mem, writable, true))
}

// insert adds a region. The same memory may be adopted several times and is
// then freed as often; regions that overlap otherwise are refused, since an
// address must have one meaning.
func (m *memory) insert(r region) (Ptr, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.regions.Load()
	if old == nil {
		return 0, ErrClosed
	}
	at, taken := m.find(*old, r.base)
	next := slices.Clone(*old)
	if taken {
		same := &next[at]
		if !same.adopted || !r.adopted || same.size != r.size || same.writable != r.writable {
			return 0, &AccessError{Op: "adopt", Ptr: r.base, Len: r.size}
		}
		same.refs++
		m.regions.Store(&next)
		return r.base, nil
	}
	if at > 0 && r.base < next[at-1].end() || at < len(next) && next[at].base < r.end() {
		return 0, &AccessError{Op: "adopt", Ptr: r.base, Len: r.size}
	}
	r.refs = 1
	next = slices.Insert(next, at, r)
	m.regions.Store(&next)
	if !r.adopted {
		m.bytes += r.size
	}
	return r.base, nil
}

func (m *memory) find(regions []region, p Ptr) (int, bool) {
	return slices.BinarySearchFunc(regions, p, func(r region, p Ptr) int {
		switch {
		case r.base < p:
			return -1
		case r.base > p:
			return 1
		}
		return 0
	})
}

func (m *memory) free(p Ptr) error {
	if p == 0 {
		return nil
	}
	_, err := m.remove(p)
	return err
}

// remove ends an allocation or an adoption and returns it.
func (m *memory) remove(p Ptr) (region, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.regions.Load()
	if old == nil {
		return region{}, ErrClosed
	}
	at, found := m.find(*old, p)
	if !found {
		return region{}, &AccessError{Op: "free", Ptr: p}
	}
	removed := (*old)[at]
	next := slices.Clone(*old)
	if next[at].refs--; next[at].refs == 0 {
		if !next[at].adopted {
			m.bytes -= next[at].size
		}
		next = slices.Delete(next, at, at+1)
		m.removed.Add(1)
	}
	m.regions.Store(&next)
	return removed, nil
}

// resolve returns the n bytes at p, if they lie in one region.
func (m *memory) resolve(op string, p Ptr, n int64, write bool) ([]byte, error) {
	r, err := m.lookup(op, p, n, write)
	if err != nil {
		return nil, err
	}
	return r.at(p, n), nil
}

// check returns an error unless the n bytes at p lie in one region.
func (m *memory) check(op string, p Ptr, n int64, write bool) error {
	_, err := m.lookup(op, p, n, write)
	return err
}

// lookup returns the region that holds the n bytes at p.
func (m *memory) lookup(op string, p Ptr, n int64, write bool) (*region, error) {
	regions := m.regions.Load()
	if regions == nil {
		return nil, ErrClosed
	}
	// The last region that starts at or before p.
	i := sort.Search(len(*regions), func(i int) bool { return (*regions)[i].base > p }) - 1
	if i >= 0 && n >= 0 {
		r := &(*regions)[i]
		if off := uint64(p - r.base); off <= uint64(r.size) && uint64(n) <= uint64(r.size)-off && (r.writable || !write) {
			return r, nil
		}
	}
	return nil, &AccessError{Op: op, Ptr: p, Len: n}
}

// together tells whether the addresses from p to end, which is behind the last, lie in
// one region.
func (m *memory) together(p, end Ptr) bool {
	_, err := m.resolve("read", p, int64(end-p), false)
	return err == nil
}

func (m *memory) write(dst Ptr, src []byte) error {
	if len(src) == 0 {
		return nil
	}
	to, err := m.resolve("write", dst, int64(len(src)), true)
	if err != nil {
		return err
	}
	copy(to, src)
	return nil
}

func (m *memory) read(dst []byte, src Ptr) error {
	if len(dst) == 0 {
		return nil
	}
	from, err := m.resolve("read", src, int64(len(dst)), false)
	if err != nil {
		return err
	}
	copy(dst, from)
	return nil
}

func (m *memory) copyWithin(dst, src Ptr, n int64) error {
	if n == 0 {
		return nil
	}
	from, err := m.resolve("read", src, n, false)
	if err != nil {
		return err
	}
	return m.write(dst, from)
}

func (m *memory) inUse() (bytes int64, live int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if regions := m.regions.Load(); regions != nil {
		live = len(*regions)
	}
	return m.bytes, live
}

// close drops all regions; false if it was closed before.
func (m *memory) close() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes = 0
	return m.regions.Swap(nil) != nil
}
