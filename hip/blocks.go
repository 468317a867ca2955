package hip

import (
	"unsafe"

	"github.com/drafthead/drafthead/hip/internal/fail"
	"github.com/drafthead/drafthead/hip/internal/memory"
)

// Blocks is a twin's share of a launch: the blocks First … End−1, and access to device
// memory. It is valid only during the call.
type Blocks struct {
	First, End int

	mem     *memory.Table
	scratch *scratch
	shared  *shared
	writes  *writeLog // what the launch writes, where somebody asked
	simd    SIMD

	activations Activations
}

// SIMD returns the vector instructions that the call may use: SIMDNone if the twin runs as
// the definition.
func (b *Blocks) SIMD() SIMD { return max(b.simd, SIMDNone) }

// Activations is how products round what they multiply with weights, on a host that was
// opened so, see [HostOptions], or is asked to by [Grid]; [ActivationsExact] elsewhere.
func (b *Blocks) Activations() Activations { return b.activations }

// In returns n values of T at p, for reading. The zero Ptr, or n = 0, gives nil. T is plain
// data: numbers, or structs of numbers.
func In[T any](b *Blocks, p Ptr, n int) []T {
	return view[T](b, p, n, "read", false)
}

// Out returns n values of T at p, for reading and writing. Blocks of one launch must write
// disjoint values. The zero Ptr, or n = 0, gives nil.
func Out[T any](b *Blocks, p Ptr, n int) []T {
	v := view[T](b, p, n, "write", true)
	if b.writes != nil && len(v) > 0 {
		b.writes.add(p, len(v), kindOf[T](), int(unsafe.Sizeof(v[0])))
	}
	return v
}

// Scratch returns n values of T that belong to this call; their content is
// undefined. Later calls of Scratch with the same Blocks return other memory.
func Scratch[T any](b *Blocks, n int) []T {
	var zero T
	raw := b.scratch.take(n * int(unsafe.Sizeof(zero)))
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(raw))), n)
}

// Keep calls prepare once for each worker of a launch, and returns its result in all later
// calls of that worker. Use it to bring inputs into another form once, for all parts of the
// grid that the worker does; [Share] does that for all workers. Scratch that prepare takes
// is kept with it. A kernel calls Keep at most once, before it takes other scratch.
func Keep[T any](b *Blocks, prepare func() T) T {
	if kept, ok := b.scratch.kept.(T); ok {
		return kept
	}
	v := prepare()
	b.scratch.keep(v)
	return v
}

func view[T any](b *Blocks, p Ptr, n int, op string, write bool) []T {
	if p == 0 || n == 0 {
		return nil
	}
	var zero T
	size, align := int64(unsafe.Sizeof(zero)), uint64(unsafe.Alignof(zero))
	length := int64(n) * size
	if n < 0 || length/size != int64(n) || uint64(p)%align != 0 {
		panic(fail.Outside(op, uint64(p), length))
	}
	raw, err := b.mem.Resolve(op, uint64(p), length, write)
	if err != nil {
		panic(err)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(raw))), n)
}

// scratch is an arena that one worker reuses from launch to launch.
type scratch struct {
	chunk []uint64 // 8-byte aligned
	used  int
	kept  any // of this launch, see Keep
	floor int // how much of chunk kept uses
}

// begin is called when a worker begins with a launch, reset before each part of it.
func (s *scratch) begin() { s.kept, s.floor, s.used = nil, 0, 0 }

func (s *scratch) reset() { s.used = s.floor }

func (s *scratch) keep(v any) { s.kept, s.floor = v, s.used }

func (s *scratch) take(bytes int) []byte {
	words := (bytes + 63) / 64 * 8
	if s.used+words > len(s.chunk) {
		// Slices handed out before keep the old chunk alive.
		s.chunk = make([]uint64, max(words, 2*len(s.chunk), 1<<12))
		s.used, s.floor = 0, 0
	}
	part := s.chunk[s.used : s.used+words]
	s.used += words
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(part))), bytes)
}
