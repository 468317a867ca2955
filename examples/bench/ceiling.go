package main

import (
	"fmt"
	"time"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// ceiling is how fast a device reads memory when it does nothing else. It is
// measured over the weights themselves, by the same threads: on a CPU by kernel
// read, with the best of some prefetch distances, on a GPU by copying on the
// device, which counts as reading and writing.
type ceiling struct {
	device  hip.Device
	once    func() error
	bytes   int64 // that once moves
	repeats int   // of once in a sample
	scratch hip.Ptr
	ahead   int64 // the prefetch distance chosen
}

const (
	// ceilingTime is the least time that a sample takes, so that the clock and the launch
	// do not count.
	ceilingTime = time.Millisecond
	// maxCopy bounds the memory that a GPU's ceiling takes.
	maxCopy = 1 << 30
	// prefetchRounds is how often each prefetch distance is tried.
	prefetchRounds = 5
)

// prefetchDistances are tried, in bytes. 0 prefetches nothing that is not read
// in the same moment.
var prefetchDistances = []int64{0, 512, 1024, 2048, 4096, 8192}

// newCeiling prepares to read the longest stretch of m. Close it afterwards.
func newCeiling(d hip.Device, m *weights.Matrix) (c *ceiling, err error) {
	c = &ceiling{device: d, repeats: 1}
	at, n := m.Stretch()
	if !d.Info().IsGPU() {
		err = c.read(at, n)
	} else {
		err = c.copy(at, min(n, maxCopy))
	}
	if err != nil {
		return nil, fmt.Errorf("read ceiling: %w", err)
	}
	return c, nil
}

func (c *ceiling) read(data hip.Ptr, n int64) (err error) {
	if c.scratch, err = c.device.Alloc(8 * int64(readBlocks(n))); err != nil {
		return err
	}
	c.bytes = n
	args := &readArgs{Data: data, Out: c.scratch, Bytes: n}
	c.once = func() error { return launchRead(c.device, args) }
	if err := c.settle(); err != nil || c.device.Info().Kind == "reference" {
		return err
	}
	// In turns, so that a machine whose speed drifts favors none of the distances.
	rates := make([][]float64, len(prefetchDistances))
	for range prefetchRounds {
		for i, ahead := range prefetchDistances {
			args.Ahead = ahead
			rate, err := c.sample()
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], rate)
		}
	}
	best := 0
	for i := range rates {
		if median(rates[i]) > median(rates[best]) {
			best = i
		}
	}
	c.ahead = prefetchDistances[best]
	args.Ahead = c.ahead
	return nil
}

func (c *ceiling) copy(data hip.Ptr, n int64) (err error) {
	if c.scratch, err = c.device.Alloc(n); err != nil {
		return err
	}
	c.bytes = 2 * n
	c.once = func() error { return c.device.Copy(c.scratch, data, n) }
	return c.settle()
}

// settle warms up, and finds how often once has to run in a sample.
func (c *ceiling) settle() error {
	for range 20 {
		rate, err := c.sample()
		if err != nil {
			return err
		}
		if float64(c.repeats)*float64(c.bytes)/rate >= ceilingTime.Seconds() {
			return nil
		}
		c.repeats *= 2
	}
	return nil
}

// sample measures once more, in bytes per second.
func (c *ceiling) sample() (float64, error) {
	start := time.Now()
	for range c.repeats {
		if err := c.once(); err != nil {
			return 0, err
		}
	}
	if err := c.device.Sync(); err != nil {
		return 0, err
	}
	return float64(c.repeats) * float64(c.bytes) / time.Since(start).Seconds(), nil
}

func (c *ceiling) Close() error { return c.device.Free(c.scratch) }
