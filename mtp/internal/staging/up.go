package staging

import (
	"errors"
	"slices"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp/internal/kernels"
)

// Up is 32-bit words on their way to the device. Add appends some and tells where they
// begin; Upload sends what was added since the last Upload, so that kernels may still
// read what went before:
//
//	words    [ upload 1 | upload 2 | … ]
//	         Begin      Next       Next
//
// If the device shares memory with the host, words are written straight into it, and
// Fetch launches the copy. One goroutine uses an Up at a time.
type Up struct {
	device hip.Device
	sharer sharer  // nil: no memory in common
	values []int32 // in shared.values as long as they fit
	sent   int     // words of uploads before the last
	shared shared
	buffer hip.Buffer
}

// NewUp returns an Up without words.
func NewUp(d hip.Device) *Up {
	sharer, _ := hip.As[sharer](d)
	return &Up{device: d, sharer: sharer}
}

// Shared reports whether words travel by memory that host and kernels share.
func (u *Up) Shared() bool { return u.sharer != nil }

// Begin leaves no words.
func (u *Up) Begin() { u.values, u.sent = u.shared.values[:0], 0 }

// Next begins the words of another upload.
func (u *Up) Next() {
	u.Align()
	u.sent = len(u.values)
}

// Len returns the number of words.
func (u *Up) Len() int { return len(u.values) }

// Add appends values and returns the index of the first.
func (u *Up) Add(values []int32) (at int) {
	at = len(u.values)
	u.values = append(u.values, values...)
	return at
}

// AddFloats appends the bits of values and returns the index of the first.
func (u *Up) AddFloats(values []float32) (at int) { return u.Add(Bits(values)) }

// AddBFloat16 appends values, the upper halves of float32, as float32.
func (u *Up) AddBFloat16(values []uint16) (at int) {
	at = len(u.values)
	u.values = slices.Grow(u.values, len(values))
	for _, v := range values {
		u.values = append(u.values, int32(uint32(v)<<16))
	}
	return at
}

// Append gives encode all words to append to, and returns the index of what it appended.
func (u *Up) Append(encode func(words []int32) ([]int32, error)) (at int, err error) {
	at = len(u.values)
	u.values, err = encode(u.values)
	return at, err
}

// Align appends zeros up to a multiple of 16 bytes: kernels read rows so much at a time.
func (u *Up) Align() {
	for len(u.values)%4 != 0 {
		u.values = append(u.values, 0)
	}
}

// At returns the address of word i, valid from Upload on.
func (u *Up) At(i int) hip.Ptr { return u.buffer.Ptr().Add(4 * int64(i)) }

// roomStep is what room for words is rounded up to. Their number grows step by step with
// the sequences, and memory that moves ends the graphs that read it.
const roomStep = 4096

// Upload sends the words added since the last upload, or leaves them for Fetch.
func (u *Up) Upload() error {
	room := (len(u.values) + roomStep - 1) / roomStep * roomStep
	if err := u.buffer.Grow(u.device, room, 4); err != nil {
		return err
	}
	if u.sharer == nil {
		return hip.WriteOf(u.device, u.At(u.sent), u.values[u.sent:])
	}
	if unsafe.SliceData(u.values) == unsafe.SliceData(u.shared.values) {
		return nil
	}
	if err := u.shared.grow(u.device, u.sharer, room); err != nil {
		return err
	}
	u.values = append(u.shared.values[:0], u.values...)
	return nil
}

// Fetch launches the copy of the last upload on d, which stands for the device.
func (u *Up) Fetch(d hip.Device) error {
	if u.shared.ptr == 0 {
		return nil
	}
	return kernels.CopyWords(d, u.At(u.sent), u.shared.ptr.Add(4*int64(u.sent)), len(u.values)-u.sent)
}

// Free gives the memory back.
func (u *Up) Free() error {
	return errors.Join(u.shared.free(u.device), u.buffer.Free(u.device))
}
