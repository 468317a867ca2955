package mtp

import (
	"sync"

	"github.com/drafthead/drafthead/hip"
)

// Memory is device memory that a head uses, in bytes.
type Memory struct {
	// Weights are the parameters and what was made of them. On a CPU they are used where
	// the checkpoint's files are mapped.
	Weights int64
	// Caches are the pages of all caches.
	Caches int64
	// Workspaces are what calls keep for the calls after them: one for each call that was
	// under way at the same time.
	Workspaces int64
}

// Memory returns the device memory that the head uses now.
func (h *Head) Memory() Memory {
	h.using.RLock()
	defer h.using.RUnlock()
	if h.closed || h.meter == nil {
		return Memory{}
	}
	m := Memory{Weights: h.report.Bytes}
	for _, made := range h.draftHead.made {
		m.Weights += made.Bytes()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.caches {
		m.Caches += c.Bytes()
	}
	m.Workspaces = max(0, h.meter.bytes()-h.loadedBytes-m.Caches)
	return m
}

// meter is a device that knows how much of its memory was allocated through it.
type meter struct {
	hip.Device
	mu    sync.Mutex
	sizes map[hip.Ptr]int64
	sum   int64
}

func newMeter(d hip.Device) *meter { return &meter{Device: d, sizes: make(map[hip.Ptr]int64)} }

// Unwrap passes on the abilities of the device.
func (m *meter) Unwrap() hip.Device { return m.Device }

func (m *meter) Alloc(n int64) (hip.Ptr, error) {
	p, err := m.Device.Alloc(n)
	if err == nil && p != 0 {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sizes[p] = n
		m.sum += n
	}
	return p, err
}

func (m *meter) Free(p hip.Ptr) error {
	m.mu.Lock() // until the memory is free, so that its address is not another's
	defer m.mu.Unlock()
	err := m.Device.Free(p)
	if err == nil {
		m.sum -= m.sizes[p]
		delete(m.sizes, p)
	}
	return err
}

func (m *meter) bytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sum
}
