package safetensors

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"runtime"
	"sync"
	"syscall"
)

const (
	// populatePart is how many bytes make another thread worth it.
	populatePart = 4 << 20
	// maxPopulateThreads is enough to keep a disk's queue and the kernel's page
	// tables busy; more of them wait for each other.
	maxPopulateThreads = 8
	// advicePiece is what is asked for with one piece of advice. Linux reads no more
	// for one than its own read-ahead, 128 KB unless it was tuned, and drops the rest.
	advicePiece = 128 << 10
)

// ReadAhead reads those of the bytes from begin to end of a file that are mapped into memory
// before they are used. With wait they are there when it returns, so that the first pass over
// them takes no page faults; the error matches fs.ErrClosed when the File is closed. Without
// wait it only advises the system, which reads them meanwhile if it can, and the error is
// nil. If nothing is mapped there, ReadAhead does nothing.
func (f *File) ReadAhead(begin, end int64, wait bool) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed && wait {
		return &fileError{file: f.name, err: fs.ErrClosed}
	}
	page := int64(os.Getpagesize())
	for i := range f.backing.pieces {
		p := &f.backing.pieces[i]
		first, last := max(begin/page*page, p.offset), min(end, p.end())
		if !p.mapped || first >= last {
			continue
		}
		if wait {
			if err := f.populate(p.data[first-p.offset : last-p.offset]); err != nil {
				return err
			}
			continue
		}
		for part := range advicePieces(first, last, page) {
			willNeed(p.data[part[0]-p.offset : part[1]-p.offset])
		}
	}
	return nil
}

// populate reads data, whole pages but the last, with several threads.
func (f *File) populate(data []byte) error {
	part := populateShare(len(data), min(runtime.GOMAXPROCS(0), maxPopulateThreads), os.Getpagesize())
	errs := make([]error, (len(data)+part-1)/part)
	var threads sync.WaitGroup
	for i := range errs {
		threads.Go(func() { errs[i] = populatePages(data[i*part : min((i+1)*part, len(data))]) })
	}
	threads.Wait()
	if err := errors.Join(errs...); err != nil {
		return &fileError{file: f.name, err: err}
	}
	return nil
}

// advicePieces cuts the bytes from begin, or the start of its page, to end.
func advicePieces(begin, end, page int64) iter.Seq[[2]int64] {
	return func(yield func([2]int64) bool) {
		for at := begin / page * page; at < end; at += advicePiece {
			if !yield([2]int64{at, min(at+advicePiece, end)}) {
				return
			}
		}
	}
}

// populateShare returns the bytes of each thread's part of n: whole pages, and
// not less than is worth a thread.
func populateShare(n, threads, page int) int {
	share := max((n+threads-1)/threads, populatePart)
	return (share + page - 1) / page * page
}

func populatePages(data []byte) error {
	err := populateRead(data)
	if errors.Is(err, errors.ErrUnsupported) {
		return caught(func() { touchPages(data) })
	}
	if errors.Is(err, syscall.EFAULT) {
		err = fmt.Errorf("%w: %w", errGone, err)
	}
	return err
}

// touchPages reads one byte of every page.
func touchPages(data []byte) {
	var sum byte
	for i := 0; i < len(data); i += os.Getpagesize() {
		sum += data[i]
	}
	runtime.KeepAlive(sum)
}
