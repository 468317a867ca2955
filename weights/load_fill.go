package weights

import (
	"fmt"
	"iter"
	"runtime"

	"github.com/drafthead/drafthead/hip"
)

const (
	// fillChunk is the number of bytes of an upload that one goroutine moves at a time.
	fillChunk = 4 << 20
	// mostFillers is how many goroutines fill a device's upload memory: one core reads
	// slower than a GPU copies.
	mostFillers = 12
)

// filler is a device that lets the caller read into its upload memory. read gets the parts
// in order, with their offsets. Several goroutines may call Fill at once.
type filler interface {
	Fill(dst hip.Ptr, n int64, read func(part []byte, off int64) error) error
}

// fillJob is a stretch of an upload's rows.
type fillJob struct {
	of     *upload
	off, n int64
}

// fillJobs cuts the uploads into jobs, in their order.
func (m *mover) fillJobs() iter.Seq[fillJob] {
	return func(yield func(fillJob) bool) {
		for i := range m.uploads {
			u := &m.uploads[i]
			for off, size := int64(0), u.bytes(); off < size; off += fillChunk {
				if !yield(fillJob{u, off, min(size-off, fillChunk)}) {
					return
				}
			}
		}
	}
}

// fill has several goroutines take job after job, across the ends of tensors and files, so
// that the device never waits for the last one of a tensor. This goroutine hands the jobs
// out, and reports those that are done. After an error no other begins, and those that began
// are waited for.
func (m *mover) fill(f filler) error {
	type moved struct {
		n   int64
		err error
	}
	todo, done, moving := make(chan fillJob), make(chan moved), 0
	for range min(mostFillers, runtime.GOMAXPROCS(0)) {
		go func() {
			for j := range todo {
				done <- moved{j.n, m.fillOne(f, &j)}
			}
		}()
	}
	next, stop := iter.Pull(m.fillJobs())
	defer func() {
		stop()
		close(todo)
		for ; moving > 0; moving-- {
			<-done
		}
	}()
	j, more := next()
	for more || moving > 0 {
		to := todo
		if !more {
			to = nil
		}
		select {
		case to <- j:
			moving++
			j, more = next()
		case one := <-done:
			moving--
			if one.err != nil {
				return one.err
			}
			if err := m.report(one.n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *mover) fillOne(f filler, j *fillJob) error {
	u := j.of
	var failed error // of reading, which names the tensor already
	err := f.Fill(u.to.Add(j.off), j.n, func(part []byte, off int64) error {
		off += j.off
		m.ahead.beyond(u.tensor.File(), u.place(off+int64(len(part))))
		if failed = u.readAt(part, off); failed == nil && u.seen != nil {
			u.seen.add(part, off)
		}
		return failed
	})
	if err != nil && failed == nil {
		err = fmt.Errorf("%s: %w", u.tensor.Name, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", u.param, err)
	}
	return nil
}
