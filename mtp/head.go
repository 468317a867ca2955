package mtp

import (
	"errors"
	"slices"
	"sync"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/moe"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// Head is a loaded draft head.
//
// It owns its parameters, its caches, the mapping of its files, and the device if none was
// given. Close waits for calls under way and gives all of it back. Close in this order:
// sequences and caches, which is optional; the head; then Free the memory that you imported
// or adopted; then the device, if it is yours. A method that is called after Close returns
// [ErrClosed], or a zero result if it has no error.
//
// Several goroutines may call all methods at the same time, with different sequences: a
// Head keeps no state of a call. A [Batch] is only read and not kept. The caller owns
// results. A context ends a load within one chunk, and a Draft between two steps (on a GPU,
// while they are queued). When a call returns, with an error or without, nothing uses its
// memory any more.
type Head struct {
	config  *Config
	options Options
	chain   Chain
	report  *weights.Report

	device      hip.Device // meter, once there is one
	meter       *meter
	loadedBytes int64 // that load allocated
	ownsDevice  bool
	checkpoint  *safetensors.Folder // open while the device reads it in place
	loaded      *weights.Loaded

	geometry  attention.Geometry // of this rank
	experts   moe.Config         // of this rank
	embed     *weights.Matrix
	lmHead    *weights.Matrix
	draftHead draftLMHead
	modules   []module
	ranks     *ranks // nil: the head runs alone

	using      sync.RWMutex // held for reading during calls
	closed     bool
	released   bool // all of it
	mu         sync.Mutex
	workspaces []*workspace // idle
	calls      int64
	caches     map[*Cache]struct{}

	counters counters
}

// Config returns the checkpoint's config. It must not be changed.
func (h *Head) Config() *Config { return h.config }

// Report returns what was loaded. It must not be changed.
func (h *Head) Report() *weights.Report { return h.report }

// Device returns the device that runs the head.
func (h *Head) Device() hip.Device {
	if h.meter == nil {
		return h.device
	}
	return h.meter.Device
}

// Matrix returns a loaded matrix by its parameter's name, for example "lm_head.weight", to
// share it with an engine. It is valid until Close. An unknown name gives nil.
func (h *Head) Matrix(name string) *weights.Matrix {
	h.using.RLock()
	defer h.using.RUnlock()
	if h.closed {
		return nil
	}
	return h.loaded.Matrix(name)
}

// build makes what the forward needs of the loaded parameters.
func (h *Head) build() (err error) {
	c := h.config
	if h.chain, err = h.options.Chain.resolve(c.NumMTPModules); err != nil {
		return err
	}
	h.caches = make(map[*Cache]struct{})
	if !h.whole() {
		return nil
	}
	p := h.options.parallel()
	p.block = c.shareBlock
	shares, err := c.shares(p)
	if err != nil {
		return err
	}
	h.geometry, h.ranks = c.Attention, h.options.groupRanks()
	h.geometry.Heads, h.geometry.KVHeads = shares.heads.Len(), shares.kvHeads.Len()
	h.experts = h.expertsOf(shares)
	h.embed, h.lmHead = h.options.Embed, h.options.LMHead
	if h.embed == nil {
		h.embed = h.loaded.Matrix(embedTokens)
	}
	if h.lmHead == nil {
		h.lmHead = h.loaded.Matrix(lmHead)
	}
	if c.TieWordEmbeddings && h.options.LMHead == nil {
		h.lmHead = h.embed
	}
	if h.ranks != nil {
		if err := h.buildRanks(); err != nil {
			return err
		}
	}
	for i := range c.NumMTPModules {
		h.modules = append(h.modules, h.module(i))
	}
	return nil
}

// whole reports whether the head can run: it holds all parameters, or its share of them in
// a group that holds the others.
func (h *Head) whole() bool {
	return h.options.Group != nil || h.options.parallel().whole()
}

// enter begins a call; leave ends it.
func (h *Head) enter() error {
	h.using.RLock()
	if h.closed {
		h.using.RUnlock()
		return closed("head")
	}
	if h.config == nil {
		h.using.RUnlock()
		return refuse("Head", "the zero Head", "one of Load", nil)
	}
	if !h.whole() {
		h.using.RUnlock()
		option, share := h.options.parallel().cut()
		return refuse("Options."+option, share, "a whole head to run", errors.ErrUnsupported)
	}
	return nil
}

func (h *Head) leave() { h.using.RUnlock() }

// Close frees all that the head took: weights, caches, the mapping of its files, and the
// device if Load made it. It waits for calls under way. Sequences of its caches may be
// dropped, or closed later. What a device could not free, which is the error then, the next
// Close frees. A Close after that returns ErrClosed.
func (h *Head) Close() error {
	h.using.Lock()
	defer h.using.Unlock()
	if h.closed && h.released {
		return closed("head")
	}
	h.closed = true
	err := h.release()
	h.released = err == nil
	return err
}

// release gives back all that the head took. What could not be given back stays, for
// another release. The files are open for as long as the device may know them.
func (h *Head) release() error {
	var errs []error
	done := func(err error) bool {
		errs = append(errs, err)
		return err == nil
	}
	for c := range h.caches {
		if done(c.kv.Close()) {
			delete(h.caches, c)
		}
	}
	h.workspaces = slices.DeleteFunc(h.workspaces, func(w *workspace) bool { return done(w.free()) })
	h.modules, h.draftHead.matrix, h.draftHead.vocabulary = nil, nil, nil
	h.draftHead.made = slices.DeleteFunc(h.draftHead.made, func(m *weights.Matrix) bool { return done(m.Free(h.device)) })
	for _, p := range h.tables() {
		if *p != 0 && done(h.device.Free(*p)) {
			*p = 0
		}
	}
	if h.loaded != nil && done(h.loaded.Close()) {
		h.loaded = nil
	}
	if h.ownsDevice && done(h.device.Close()) { // with all that it has
		h.ownsDevice, h.loaded, h.caches, h.workspaces, h.draftHead = false, nil, nil, nil, draftLMHead{}
	}
	if h.checkpoint != nil && h.loaded == nil && done(h.checkpoint.Close()) {
		h.checkpoint = nil
	}
	return errors.Join(errs...)
}
