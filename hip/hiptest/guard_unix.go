//go:build unix

package hiptest

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Guarded returns n zeroed values right before a page that cannot be accessed: an access
// past the last one, by assembly too, ends the test process. They are valid until the test
// ends. T is plain data.
func Guarded[T any](t testing.TB, n int) []T {
	t.Helper()
	var zero T
	page := unix.Getpagesize()
	bytes := n * int(unsafe.Sizeof(zero))
	usable := (bytes + page - 1) / page * page
	mem, err := unix.Mmap(-1, 0, usable+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mprotect(mem[usable:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(mem[usable-bytes:]))), n)
}
