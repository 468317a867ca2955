package hip

import (
	"unsafe"

	"github.com/drafthead/drafthead/hip/internal/fail"
	"github.com/drafthead/drafthead/hip/internal/memory"
)

// allocate adds n zeroed bytes of Go memory to a table.
func allocate(t *memory.Table, n int64) (Ptr, error) {
	if n == 0 {
		return 0, nil
	}
	if n < 0 || n > memory.Most {
		return 0, fail.OutOf(n)
	}
	raw, err := zeroed(n + memory.Align - 1)
	if err != nil {
		return 0, fail.OutOf(n)
	}
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(raw))) & (memory.Align - 1)
	return insert(t, raw[skip:int64(skip)+n:int64(skip)+n], true, false)
}

// adopt adds the caller's memory to a table.
func adopt(t *memory.Table, mem []byte, writable bool) (Ptr, error) {
	if len(mem) == 0 {
		return 0, nil
	}
	return insert(t, mem, writable, true)
}

// insert adds Go memory under its own address.
func insert(t *memory.Table, mem []byte, writable, adopted bool) (Ptr, error) {
	p := Ptr(uintptr(unsafe.Pointer(unsafe.SliceData(mem))))
	return p, t.Insert(goRegion(p, mem, writable, adopted))
}

// goRegion is a region of Go memory under an address of its own or of a mirror.
func goRegion(p Ptr, mem []byte, writable, adopted bool) memory.Region {
	return memory.Region{Base: uint64(p), Size: int64(len(mem)), Mem: mem, Writable: writable, Adopted: adopted}
}

// zeroed is make with an error: make ends the process where memory is short.
func zeroed(n int64) ([]byte, error) { return zeroedOf(n, systemHas) }

// zeroedOf is zeroed with the question of whether the system has that many bytes.
func zeroedOf(n int64, has func(int64) bool) ([]byte, error) {
	const sure = 64 << 20 // bytes that are not asked for first, and that Go may take beside n
	if n > sure && !has(n+sure) {
		return nil, fail.OutOf(n)
	}
	return make([]byte, n), nil
}

func free(t *memory.Table, p Ptr) error {
	if p == 0 {
		return nil
	}
	_, err := t.Remove(uint64(p))
	return err
}
