// Package memory is a device's table of live allocations.
package memory

import (
	"cmp"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/drafthead/drafthead/hip/internal/fail"
)

// Align is what an address of Alloc is a multiple of, in bytes.
const Align = 64

// Most is more bytes than any device has. A larger size is refused before anything adds
// to it, so that no sum overflows.
const Most = 1 << 40

// Table knows which addresses are memory of a device. On a CPU it maps them to the Go
// memory they stand for: an address is a key into the table and never turned into a
// pointer, so a wrong one is found. For a GPU it knows the ranges alone.
//
// Lookups are on every path and wait for nothing: they search an immutable snapshot,
// sorted by address, that a change replaces as a whole. A lookup beside a change sees the
// table before it or after it, and a region that it has found stays as it was, although it
// may be freed meanwhile: freeing memory that is in use is the caller's mistake.
type Table struct {
	mu      sync.Mutex               // held by changes
	regions atomic.Pointer[[]Region] // nil: closed
	bytes   int64                    // allocated, without adopted
	removed atomic.Uint64            // how often a region was
}

// Region is one allocation, adoption or import.
type Region struct {
	Base     uint64
	Size     int64
	Mem      []byte // nil where the memory is a GPU's alone
	Writable bool
	Adopted  bool // the memory is the caller's

	adoptions int // that Remove has to end
}

func (r *Region) end() uint64 { return r.Base + uint64(r.Size) }

// At returns the n bytes at p, of the region's Go memory.
func (r *Region) At(p uint64, n int64) []byte {
	off := int64(p - r.Base)
	return r.Mem[off : off+n : off+n]
}

// New returns an empty table.
func New() *Table {
	t := new(Table)
	t.regions.Store(new([]Region))
	return t
}

// Insert adds a region. The same memory may be adopted several times and is then removed
// as often; regions that overlap otherwise are refused, since an address must have one
// meaning.
func (t *Table) Insert(r Region) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.regions.Load()
	if old == nil {
		return fail.Closed
	}
	at, taken := find(*old, r.Base)
	next := slices.Clone(*old)
	if taken {
		same := &next[at]
		if !same.Adopted || !r.Adopted || same.Size != r.Size || same.Writable != r.Writable {
			return fail.Outside("adopt", r.Base, r.Size)
		}
		same.adoptions++
		t.regions.Store(&next)
		return nil
	}
	if at > 0 && r.Base < next[at-1].end() || at < len(next) && next[at].Base < r.end() {
		return fail.Outside("adopt", r.Base, r.Size)
	}
	r.adoptions = 1
	next = slices.Insert(next, at, r)
	t.regions.Store(&next)
	if !r.Adopted {
		t.bytes += r.Size
	}
	return nil
}

func find(regions []Region, p uint64) (int, bool) {
	return slices.BinarySearchFunc(regions, p, func(r Region, p uint64) int { return cmp.Compare(r.Base, p) })
}

// Remove ends an allocation or an adoption and returns it.
func (t *Table) Remove(p uint64) (Region, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.regions.Load()
	if old == nil {
		return Region{}, fail.Closed
	}
	at, found := find(*old, p)
	if !found {
		return Region{}, fail.Outside("free", p, 0)
	}
	removed := (*old)[at]
	next := slices.Clone(*old)
	if next[at].adoptions--; next[at].adoptions == 0 {
		if !next[at].Adopted {
			t.bytes -= next[at].Size
		}
		next = slices.Delete(next, at, at+1)
		t.removed.Add(1)
	}
	t.regions.Store(&next)
	return removed, nil
}

// Resolve returns the n bytes at p, if they lie in one region, which has Go memory.
func (t *Table) Resolve(op string, p uint64, n int64, write bool) ([]byte, error) {
	r, err := t.Lookup(op, p, n, write)
	if err != nil {
		return nil, err
	}
	return r.At(p, n), nil
}

// Lookup returns the region that holds the n bytes at p and, for a write, may be written.
// op names the access in the error.
func (t *Table) Lookup(op string, p uint64, n int64, write bool) (*Region, error) {
	regions := t.regions.Load()
	if regions == nil {
		return nil, fail.Closed
	}
	// The last region that starts at or before p.
	i := sort.Search(len(*regions), func(i int) bool { return (*regions)[i].Base > p }) - 1
	if i >= 0 && n >= 0 {
		r := &(*regions)[i]
		if off := p - r.Base; off <= uint64(r.Size) && uint64(n) <= uint64(r.Size)-off && (r.Writable || !write) {
			return r, nil
		}
	}
	return nil, fail.Outside(op, p, n)
}

// Check is Lookup for callers that do not need the region.
func (t *Table) Check(p uint64, n int64, write bool) error {
	op := "read"
	if write {
		op = "write"
	}
	_, err := t.Lookup(op, p, n, write)
	return err
}

// Together reports whether the addresses from p to end, which is after the last, lie in
// one region.
func (t *Table) Together(p, end uint64) bool { return t.Check(p, int64(end-p), false) == nil }

// Write copies src to the Go memory at dst.
func (t *Table) Write(dst uint64, src []byte) error {
	if len(src) == 0 {
		return nil
	}
	to, err := t.Resolve("write", dst, int64(len(src)), true)
	if err != nil {
		return err
	}
	copy(to, src)
	return nil
}

// Read copies from the Go memory at src into dst.
func (t *Table) Read(dst []byte, src uint64) error {
	if len(dst) == 0 {
		return nil
	}
	from, err := t.Resolve("read", src, int64(len(dst)), false)
	if err != nil {
		return err
	}
	copy(dst, from)
	return nil
}

// Copy copies n bytes of Go memory.
func (t *Table) Copy(dst, src uint64, n int64) error {
	if n == 0 {
		return nil
	}
	from, err := t.Resolve("read", src, n, false)
	if err != nil {
		return err
	}
	return t.Write(dst, from)
}

// InUse returns the bytes of allocations, and the number of regions.
func (t *Table) InUse() (bytes int64, live int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if regions := t.regions.Load(); regions != nil {
		live = len(*regions)
	}
	return t.bytes, live
}

// Regions returns what is in the table, in the order of addresses; it is not to be
// changed.
func (t *Table) Regions() []Region {
	if regions := t.regions.Load(); regions != nil {
		return *regions
	}
	return nil
}

// Removed counts the regions that are gone. While the count stays the same, an address that
// was valid stays valid.
func (t *Table) Removed() uint64 { return t.removed.Load() }

// Closed reports whether Close was called.
func (t *Table) Closed() bool { return t.regions.Load() == nil }

// Close drops all regions; it reports false if that was done before.
func (t *Table) Close() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes = 0
	return t.regions.Swap(nil) != nil
}
