//go:build unix

package weights

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// guarded returns n bytes that end where memory which must not be touched begins, and
// begin right after such memory if they fill whole pages.
func guarded(t *testing.T, n int) []byte {
	t.Helper()
	page := os.Getpagesize()
	size := ceilDiv(n, page) * page
	mem, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(mem)) })
	require.NoError(t, unix.Mprotect(mem[:page], unix.PROT_NONE))
	require.NoError(t, unix.Mprotect(mem[page+size:], unix.PROT_NONE))
	return mem[page+size-n : page+size : page+size]
}

// TestProductAtGuardPages: nothing is read or written after the last byte of
// weights, scales, x and y, for every format and level and at every cutoff.
func TestProductAtGuardPages(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 1))
	const rows = 37
	for _, f := range allFormats {
		for _, cols := range []int{1, 33, 64, 127, 128, 129, 512, 640} {
			s := newStored(r, f, rows, cols)
			data, scale := guarded(t, len(s.data)), guarded(t, len(s.scale))
			copy(data, s.data)
			copy(scale, s.scale)
			for _, n := range []int{1, 2, 3, 4, 5, 16, 17} {
				x := randomFloats(r, n*cols)
				want := naiveProduct(x, s)
				for name, d := range hostsOfAll(1) {
					xMem, yMem := guarded(t, 4*len(x)), guarded(t, 4*n*rows)
					copy(unsafe.Slice((*float32)(unsafe.Pointer(&xMem[0])), len(x)), x)
					adopt := func(mem []byte, writable bool) hip.Ptr {
						p, err := hip.Adopt(d, mem, writable)
						require.NoError(t, err)
						return p
					}
					segment := DenseSegment(f, rows, cols, adopt(data, false), adopt(scale, false))
					segment.global = s.of
					m, err := NewMatrix(d, cols, []Segment{segment})
					require.NoError(t, err)
					require.NoError(t, m.Product(d, adopt(yMem, true), adopt(xMem, false), n))
					y := unsafe.Slice((*float32)(unsafe.Pointer(&yMem[0])), n*rows)
					require.NoError(t, hiptest.Within(y, want, max(productBound, roundedBy(name))), fmt.Sprintf("%v, %d cols, %d rows on %s", f, cols, n, name))
					require.NoError(t, d.Close())
				}
			}
		}
	}
}
