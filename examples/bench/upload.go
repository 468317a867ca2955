package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/drafthead/drafthead/examples/internal/plot"
	"github.com/drafthead/drafthead/hip"
)

// upload is how fast the weights came to a device that does not use them in place,
// beside what limits it. Rates are GB/s, 0 where nothing was measured.
type upload struct {
	GBps     float64 `json:"gbps"`      // from the first bytes that were ready to the last
	BusGBps  float64 `json:"bus_gbps"`  // copies from pinned memory to the device
	DiskGBps float64 `json:"disk_gbps"` // reads of the largest file past the page cache
	// Ratio is GBps ÷ the slower of bus and disk; a warm checkpoint may exceed 1.
	Ratio float64 `json:"ratio"`
}

const (
	busBytes = 1 << 30
	busRuns  = 5
	// diskBytes bounds what is read at a time to measure a disk, diskPart what a reader
	// asks for at once.
	diskBytes, diskPart = 1 << 30, 8 << 20
)

// diskReaders is how many readers at once a disk is measured with: which of them it likes
// best differs.
var diskReaders = [...]int{1, 4, 8}

// loadClock notes when bytes were ready.
type loadClock struct {
	first, last         time.Time
	firstDone, lastDone int64
}

// around returns progress with what it is told noted.
func (c *loadClock) around(progress func(done, total int64)) func(done, total int64) {
	return func(done, total int64) {
		c.last, c.lastDone = time.Now(), done
		if c.first.IsZero() {
			c.first, c.firstDone = c.last, done
		}
		if progress != nil {
			progress(done, total)
		}
	}
}

// rate is in GB/s.
func (c *loadClock) rate() float64 {
	if seconds := c.last.Sub(c.first).Seconds(); seconds > 0 {
		return float64(c.lastDone-c.firstDone) / seconds / 1e9
	}
	return 0
}

// filler is a device that takes bytes where the caller reads them to. read gets the parts
// in order, with their offsets.
type filler interface {
	Fill(dst hip.Ptr, n int64, read func(part []byte, off int64) error) error
}

// measureUpload returns nil for a device that has nothing to upload to. As much as was
// loaded is enough for the bus.
func measureUpload(d hip.Device, checkpoint string, clock *loadClock) (*upload, error) {
	f, ok := hip.As[filler](d)
	if !ok {
		return nil, nil
	}
	u := &upload{GBps: clock.rate()}
	var err error
	if u.BusGBps, err = busRate(d, f, min(busBytes, max(clock.lastDone, 1<<20))); err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	if checkpoint != "" {
		if u.DiskGBps, err = diskRate(checkpoint); err != nil {
			return nil, fmt.Errorf("disk: %w", err)
		}
	}
	limit := u.BusGBps
	if u.DiskGBps > 0 {
		limit = min(limit, u.DiskGBps)
	}
	u.Ratio = u.GBps / limit
	return u, nil
}

// busRate copies what lies in pinned memory, whatever it is. The fastest run counts,
// since it is a limit.
func busRate(d hip.Device, f filler, n int64) (best float64, err error) {
	p, err := d.Alloc(n)
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := d.Free(p); err == nil {
			err = e
		}
	}()
	for range busRuns {
		start := time.Now()
		if err := f.Fill(p, n, func([]byte, int64) error { return nil }); err != nil {
			return 0, err
		}
		if err := d.Sync(); err != nil {
			return 0, err
		}
		best = max(best, float64(n)/time.Since(start).Seconds()/1e9)
	}
	return best, nil
}

// diskRate reads the largest file of a folder past the page cache, one piece of it for
// each of diskReaders; 0 where that cannot be done. The fastest counts, since it is a
// limit.
func diskRate(folder string) (float64, error) {
	name, size := "", int64(0)
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path) // of what a link points to
		if err == nil && info.Mode().IsRegular() && info.Size() > size {
			name, size = path, info.Size()
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	file, err := openDirect(name)
	if err != nil || size < diskPart {
		if file != nil {
			file.Close()
		}
		return 0, nil // not every file system can
	}
	defer file.Close()
	inFile := int(size / diskPart)
	parts := max(1, min(inFile/len(diskReaders), diskBytes/diskPart))
	best := 0.0
	for i, readers := range diskReaders {
		best = max(best, readDirect(file, i*parts%inFile, parts, readers))
	}
	return best, nil
}

// readDirect reads parts of a file, from first on, and returns how fast; 0 if it fails.
func readDirect(file io.ReaderAt, first, parts, readers int) float64 {
	errs := make([]error, readers)
	var group sync.WaitGroup
	start := time.Now()
	for r := range readers {
		group.Go(func() {
			buffer := alignedBuffer(diskPart)
			for part := r; part < parts && errs[r] == nil; part += readers {
				_, errs[r] = file.ReadAt(buffer, int64(first+part)*diskPart)
			}
		})
	}
	group.Wait()
	if errors.Join(errs...) != nil {
		return 0
	}
	return float64(parts) * diskPart / time.Since(start).Seconds() / 1e9
}

func (u *upload) print(w io.Writer) {
	disk := "disk not measured"
	if u.DiskGBps > 0 {
		disk = fmt.Sprintf("disk %s GB/s", plot.Digits(u.DiskGBps))
	}
	fmt.Fprintf(w, "upload         %s GB/s, bus %s GB/s, %s: %.1f %% of the slower\n", plot.Digits(u.GBps), plot.Digits(u.BusGBps), disk, 100*u.Ratio)
}
