package main

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openDirect opens a file to be read past the page cache.
func openDirect(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDONLY|unix.O_DIRECT, 0)
}

// alignedBuffer returns n bytes at an address that such reads accept.
func alignedBuffer(n int) []byte {
	const alignment = 4096
	b := make([]byte, n+alignment)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (alignment - 1)
	return b[skip : skip+n]
}
