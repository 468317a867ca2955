package mtp

import (
	"unsafe"

	"github.com/drafthead/drafthead/hip"
)

// words are numbers on their way to the device, all of a call in one copy. Where the
// host and kernels share memory they are put there in the first place, and the copy is
// a launch, the first of the call's; elsewhere it is a write.
//
// A call may upload several times: each takes the words since the one before, and leaves
// those alone, which kernels may still have to read.
type words struct {
	values []int32 // in shared.values as long as they fit
	sent   int     // words of uploads before the last
	shared sharedWords
	buffer buffer
}

// begin leaves no words.
func (w *words) begin() { w.values, w.sent = w.shared.values[:0], 0 }

// next begins with the words of another upload.
func (w *words) next() {
	w.align()
	w.sent = len(w.values)
}

// add appends values and returns where they begin.
func (w *words) add(values []int32) (at int) {
	at = len(w.values)
	w.values = append(w.values, values...)
	return at
}

// align appends zeros up to a multiple of 16 bytes, for rows that are copied so much
// at a time.
func (w *words) align() {
	for len(w.values)%4 != 0 {
		w.values = append(w.values, 0)
	}
}

// at is the address of word i.
func (w *words) at(i int) hip.Ptr { return w.buffer.ptr.Add(4 * int64(i)) }

// growWords is what room for words is rounded up to: with sequences their number grows
// step by step, and memory that moves ends the graphs that read it.
const growWords = 4096

// upload copies the words to the device, or leaves it to fetch.
func (w *words) upload(d hip.Device, s hip.Sharer) error {
	room := (len(w.values) + growWords - 1) / growWords * growWords
	if err := w.buffer.grow(d, room, 4); err != nil {
		return err
	}
	if s == nil {
		return hip.WriteOf(d, w.at(w.sent), w.values[w.sent:])
	}
	if unsafe.SliceData(w.values) == unsafe.SliceData(w.shared.values) {
		return nil
	}
	if err := w.shared.grow(d, s, room); err != nil {
		return err
	}
	w.values = append(w.shared.values[:0], w.values...)
	return nil
}

// fetch launches the copy of the last upload.
func (w *words) fetch(d hip.Device) error {
	if w.shared.ptr == 0 {
		return nil
	}
	return launchCopyWords(d, w.at(w.sent), w.shared.ptr.Add(4*int64(w.sent)), len(w.values)-w.sent)
}

// results are values on their way back to the host, the other way round: the copy to
// memory that is shared is the last launch of a call.
type results struct {
	n      int // that the call gives
	buffer buffer
	shared sharedWords
}

// expect makes room for n values; 0: none come back.
func (r *results) expect(d hip.Device, s hip.Sharer, n int) error {
	r.n = n
	if err := r.buffer.grow(d, n, 4); err != nil || s == nil || n == 0 {
		return err
	}
	return r.shared.grow(d, s, n)
}

// at is the address of value i.
func (r *results) at(i int) hip.Ptr { return r.buffer.ptr.Add(4 * int64(i)) }

// bring launches the copy.
func (r *results) bring(d hip.Device) error {
	if r.shared.ptr == 0 {
		return nil
	}
	return launchCopyWords(d, r.shared.ptr, r.buffer.ptr, r.n)
}

// wait waits for all that is queued and returns the values, bits of float32 or integers.
// They are valid until the next call.
func (r *results) wait(d hip.Device, s hip.Sharer) ([]int32, error) {
	if s == nil && r.n > 0 {
		values := make([]int32, r.n)
		return values, hip.ReadOf(d, values, r.buffer.ptr)
	}
	return r.shared.values[:r.n], d.Sync()
}

// bitsOf is the same memory as bits.
func bitsOf(values []float32) []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(values))), len(values))
}

// floatsOf is the same memory as values.
func floatsOf(bits []int32) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(bits))), len(bits))
}

// sharedWords is memory of a hip.Sharer that only grows.
type sharedWords struct {
	ptr    hip.Ptr // 0: none
	values []int32
}

// grow makes room for n words. What was there is lost.
func (m *sharedWords) grow(d hip.Device, s hip.Sharer, n int) error {
	if n <= len(m.values) {
		return nil
	}
	if err := m.free(d); err != nil {
		return err
	}
	p, values, err := hip.AllocSharedOf[int32](s, n)
	if err != nil {
		return err
	}
	*m = sharedWords{p, values}
	return nil
}

func (m *sharedWords) free(d hip.Device) error {
	p := m.ptr
	*m = sharedWords{}
	return d.Free(p)
}

// copyWords copies 32-bit words, 1024 a block.
var copyWords = hip.NewKernel("copy_words", copyWordsHIP, copyWordsTwin)

type copyWordsArgs struct {
	Out hip.Ptr // [N] int32; at a multiple of 16
	In  hip.Ptr // [N] int32; at a multiple of 16
	N   int64
}

const copyWordsTile = 1024

func launchCopyWords(d hip.Device, out, in hip.Ptr, n int) error {
	if n == 0 {
		return nil
	}
	grid := hip.Grid{Blocks: (n + copyWordsTile - 1) / copyWordsTile, Threads: copyWordsTile / 4, BlockCost: 4 * copyWordsTile}
	return copyWords.Launch(d, grid, &copyWordsArgs{Out: out, In: in, N: int64(n)})
}

func copyWordsTwin(b *hip.Blocks, a *copyWordsArgs) {
	first := b.First * copyWordsTile
	n := min(b.End*copyWordsTile, int(a.N)) - first
	at := 4 * int64(first)
	copy(hip.Out[int32](b, a.Out.Add(at), n), hip.In[int32](b, a.In.Add(at), n))
}
