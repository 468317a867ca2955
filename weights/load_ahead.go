package weights

import (
	"cmp"
	"os"
	"slices"
	"sort"
	"sync"

	"github.com/drafthead/drafthead/weights/safetensors"
)

const (
	// aheadWindow is what the disk has been asked for beyond what is copied: enough
	// for several disks' queues while a stage is copied.
	aheadWindow = 64 << 20
	// aheadStep is how many bytes make it worth asking again.
	aheadStep = 4 << 20
)

// stretch is pages of a file that are loaded without a gap. The last one may reach
// beyond the end of the file.
type stretch struct {
	file       *safetensors.File
	begin, end int64
	before     int64 // bytes of the stretches before it
}

// ahead asks the disk for what will be loaded, one window before it is copied and across
// the ends of tensors and files, so that the disk does not wait meanwhile. It does not ask
// for what is not loaded (dots), except between the rows of one tensor, which share pages:
//
//	file 1   ····██████████··███▓▓▓▓▓▓▓▓▓▓···▓▓▓▓▓▓▓▓▓
//	file 2   ··▓▓▓▓▓▓▓▓▓░░░░░░░░░░░···░░░░░░░░░░░░░░░░
//
//	█ copied   ▓ asked for: aheadWindow   ░ will be
type ahead struct {
	stretches []stretch // in the order of the files

	mu    sync.Mutex // of what follows
	asked int64      // bytes of all stretches
	next  int        // the stretch that asked lies in
	ask   func(f *safetensors.File, begin, end int64)
}

// readAhead asks for bytes of a file; the last page may reach beyond its end.
func readAhead(f *safetensors.File, begin, end int64) { _ = f.ReadAhead(begin, end, false) }

// newAhead takes areas that are read in the order of byPlace, and sorts them.
func newAhead(areas []area, ask func(f *safetensors.File, begin, end int64)) *ahead {
	slices.SortFunc(areas, byPlace)
	h := &ahead{ask: ask}
	page := int64(os.Getpagesize())
	for i := range areas {
		file, begin := areas[i].tensor.File(), areas[i].place(0)
		end := (begin + areas[i].extent() + page - 1) / page * page
		begin = begin / page * page
		before := int64(0)
		if n := len(h.stretches); n > 0 {
			last := &h.stretches[n-1]
			if last.file == file && begin <= last.end {
				last.end = max(last.end, end)
				continue
			}
			before = last.before + last.end - last.begin
		}
		h.stretches = append(h.stretches, stretch{file, begin, end, before})
	}
	return h
}

// byPlace orders areas as they lie in the files.
func byPlace(a, b area) int {
	return cmp.Or(cmp.Compare(a.tensor.File().Name(), b.tensor.File().Name()), cmp.Compare(a.place(0), b.place(0)))
}

// total is the bytes of all stretches.
func (h *ahead) total() int64 {
	if len(h.stretches) == 0 {
		return 0
	}
	last := &h.stretches[len(h.stretches)-1]
	return last.before + last.end - last.begin
}

// position returns how many bytes of the stretches lie before offset off of f.
func (h *ahead) position(f *safetensors.File, off int64) int64 {
	i := sort.Search(len(h.stretches), func(i int) bool {
		s := &h.stretches[i]
		return cmp.Or(cmp.Compare(s.file.Name(), f.Name()), cmp.Compare(s.end, off)) >= 0
	})
	if i == len(h.stretches) {
		return h.total()
	}
	s := &h.stretches[i]
	if s.file != f {
		return s.before
	}
	return s.before + max(0, off-s.begin)
}

// beyond asks for what comes after offset off of f, which is about to be copied. While
// another goroutine asks it does not: the next call asks for more.
func (h *ahead) beyond(f *safetensors.File, off int64) {
	n := h.position(f, off) + aheadWindow
	if h.mu.TryLock() {
		defer h.mu.Unlock()
		h.askUntil(n)
	}
}

// until asks for the first n bytes of the stretches, rounded up to a step, unless it has
// asked for them already.
func (h *ahead) until(n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.askUntil(n)
}

func (h *ahead) askUntil(n int64) {
	n = min((n+aheadStep-1)/aheadStep*aheadStep, h.total())
	for h.asked < n {
		s := &h.stretches[h.next]
		begin := s.begin + h.asked - s.before
		end := min(s.end, begin+n-h.asked)
		h.ask(s.file, begin, end)
		h.asked += end - begin
		if end == s.end {
			h.next++
		}
	}
}
