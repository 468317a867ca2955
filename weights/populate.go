package weights

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"runtime"
	"sync"
)

const (
	// populateChunk bounds the bytes read between two looks at the context.
	populateChunk = 64 << 20
	// populatePart is the bytes that make another thread worth it.
	populatePart = 4 << 20
	// maxPopulateThreads is enough to keep a disk's queue and the kernel's page
	// tables busy; more of them wait for each other.
	maxPopulateThreads = 8
	// advicePiece is what is asked for with one piece of advice. Linux reads no more
	// for one than its own read-ahead, 128 KB unless it was tuned, and drops the rest.
	advicePiece = 128 << 10
)

// Populate reads a mapped file into memory ahead of its use, so that the first
// pass over the weights takes no page faults. progress, which may be nil, is
// called after every chunk of at most 64 MB with the bytes done of all of them.
// It returns ctx.Err() when ctx ends between two chunks, and fs.ErrClosed when
// the File is closed. Where nothing is mapped there is nothing to do.
func (f *File) Populate(ctx context.Context, progress func(done, total int64)) error {
	for done := int64(0); done < f.size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		end := min(done+populateChunk, f.size)
		mapped, err := f.populateRange(done, end)
		if err != nil {
			return &fs.PathError{Op: "populate", Path: f.name, Err: err}
		}
		if !mapped {
			return nil
		}
		done = end
		if progress != nil {
			progress(done, f.size)
		}
	}
	return nil
}

// populateRange populates the bytes from begin, a multiple of the page size, to
// end, if the file is mapped, with several threads.
func (f *File) populateRange(begin, end int64) (mapped bool, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return false, fs.ErrClosed
	}
	if !f.backing.mapped {
		return false, nil
	}
	data := f.backing.data[begin:end]
	part := populateShare(len(data), min(runtime.GOMAXPROCS(0), maxPopulateThreads), os.Getpagesize())
	errs := make([]error, (len(data)+part-1)/part)
	var threads sync.WaitGroup
	for i := range errs {
		threads.Go(func() { errs[i] = populatePages(data[i*part : min((i+1)*part, len(data))]) })
	}
	threads.Wait()
	return true, errors.Join(errs...)
}

// readAhead has the bytes from begin to end of a mapped file read from disk, and does
// not wait for them. It is advice: where it cannot be followed nothing happens.
func (f *File) readAhead(begin, end int64) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if !f.backing.mapped {
		return
	}
	for piece := range advicePieces(begin, end, int64(os.Getpagesize())) {
		willNeed(f.backing.data[piece[0]:piece[1]])
	}
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
		touchPages(data)
		return nil
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
