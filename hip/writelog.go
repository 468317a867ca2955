package hip

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"github.com/drafthead/drafthead/hip/internal/memory"
)

// kind is how written memory is compared.
type kind uint8

const (
	kindExact kind = iota
	kindFloat32
	kindFloat64
	kindBF16
	kindE4M3
)

func kindOf[T any]() kind {
	var zero T
	switch any(zero).(type) {
	case float32:
		return kindFloat32
	case float64:
		return kindFloat64
	case BF16:
		return kindBF16
	case E4M3:
		return kindE4M3
	}
	return kindExact
}

// at returns value i of mem as a number. Exact memory is read as unsigned, or as signed if
// it is as wide as an int32, and only for messages.
func (k kind) at(mem []byte, size, i int) float64 {
	v := mem[i*size : (i+1)*size]
	switch {
	case k == kindFloat32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(v)))
	case k == kindFloat64:
		return math.Float64frombits(binary.LittleEndian.Uint64(v))
	case k == kindBF16:
		return float64(BF16(binary.LittleEndian.Uint16(v)).Float32())
	case k == kindE4M3:
		return float64(E4M3(v[0]).Float32())
	case size >= 8:
		return float64(binary.LittleEndian.Uint64(v))
	case size == 4:
		return float64(int32(binary.LittleEndian.Uint32(v)))
	case size == 2:
		return float64(binary.LittleEndian.Uint16(v))
	}
	return float64(v[0])
}

// equal reports whether value i agrees: exact memory byte for byte, numbers
// within bound, or one code apart where they are E4M3, NaN with NaN, infinities with
// themselves.
func (k kind) equal(got, want []byte, size, i int, bound float64) bool {
	if k == kindExact {
		return bytes.Equal(got[i*size:(i+1)*size], want[i*size:(i+1)*size])
	}
	g, w := k.at(got, size, i), k.at(want, size, i)
	if g == w || math.IsNaN(g) && math.IsNaN(w) {
		return true
	}
	if k == kindE4M3 {
		return g == g && w == w && max(e4m3Steps(got[i])-e4m3Steps(want[i]), e4m3Steps(want[i])-e4m3Steps(got[i])) <= 1
	}
	return math.Abs(g-w) <= bound && !math.IsInf(w, 0)
}

// e4m3Steps is how many codes lie between 0 and a code that is a number.
func e4m3Steps(code byte) int {
	if code&0x80 != 0 {
		return -int(code & 0x7f)
	}
	return int(code)
}

// write is a range that a kernel asked for with Out.
type write struct {
	ptr  Ptr
	n    int
	size int
	kind kind
}

func (w *write) bytes() int64 { return int64(w.n) * int64(w.size) }
func (w *write) end() Ptr     { return w.ptr + Ptr(w.bytes()) }

type writeLog struct {
	ranges []write
}

func (l *writeLog) add(p Ptr, n int, k kind, size int) {
	l.ranges = append(l.ranges, write{p, n, size, k})
}

// merged returns the ranges sorted by address, and joins those of one kind that touch or
// overlap in one allocation: on a GPU the next allocation may begin where one ends.
func (l *writeLog) merged(m *memory.Table) []write {
	slices.SortStableFunc(l.ranges, func(a, b write) int {
		switch {
		case a.ptr < b.ptr:
			return -1
		case a.ptr > b.ptr:
			return 1
		}
		return 0
	})
	var out []write
	for _, w := range l.ranges {
		if len(out) > 0 {
			last := &out[len(out)-1]
			if w.kind == last.kind && w.size == last.size && w.ptr <= last.end() && m.Together(uint64(last.ptr), uint64(w.end())) {
				if w.end() > last.end() {
					last.n = int((w.end() - last.ptr) / Ptr(w.size))
				}
				continue
			}
		}
		out = append(out, w)
	}
	return out
}
