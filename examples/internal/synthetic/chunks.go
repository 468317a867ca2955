package synthetic

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	// ChunkSize is what a worker makes at a time, in bytes.
	ChunkSize = 4 << 20
	// maxWorkers bounds what buffers of that size take together. A few cores make data
	// faster than any disk takes it.
	maxWorkers = 16
)

// EachChunk cuts size bytes into chunks of ChunkSize, and every core works on them. worker
// is called once by each goroutine and returns what it calls for its chunks, of n bytes
// from offset off. The first error, or the end of ctx, ends all.
func EachChunk(ctx context.Context, size int64, worker func() func(off, n int64) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var workers sync.WaitGroup
	var next atomic.Int64
	for range min(runtime.GOMAXPROCS(0), maxWorkers) {
		workers.Go(func() {
			do := worker()
			for ctx.Err() == nil {
				off := next.Add(ChunkSize) - ChunkSize
				if off >= size {
					return
				}
				if err := do(off, min(ChunkSize, size-off)); err != nil {
					fail(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}
