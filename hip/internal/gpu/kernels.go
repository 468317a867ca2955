package gpu

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/fail"
	"github.com/drafthead/drafthead/hip/internal/registry"
)

// kernelTable holds what a device has loaded: one module for each source, one
// function for each kernel.
type kernelTable struct {
	functions sync.Map // *Kernel → *function

	mu      sync.Mutex
	modules map[string]*module // by source
}

// function is a kernel ready to be launched.
type function struct {
	handle   uintptr
	size     uintptr // of the argument struct
	pointers []uintptr
	shared   uintptr // bytes of memory that a block needs beside what the code declares
	early    bool    // see [device.launchEarly]
}

// module is a source's code on the device, or on the way there.
type module struct {
	mu     sync.Mutex // held while it is being made
	handle uintptr    // 0: not made
	code   []byte     // HIP reads it for as long as the module is loaded
}

// function returns the kernel's function and compiles its source if it must. The
// caller has entered the device.
func (g *device) function(k *hip.Kernel) (*function, error) {
	if f, ok := g.kernels.functions.Load(k); ok {
		return f.(*function), nil
	}
	known := registry.Find(k)
	switch {
	case known == nil || known.Source == "":
		return nil, fail.Kernel(k.Name, fail.NoSource)
	case known.Args.Size() > maxArgs:
		return nil, fail.Kernel(k.Name, fmt.Errorf("%d bytes of arguments, want at most %d", known.Args.Size(), maxArgs))
	}
	m := g.kernels.module(known.Source)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.handle == 0 {
		if err := g.load(m, known); err != nil {
			return nil, err
		}
	}
	f := &function{size: known.Args.Size(), pointers: pointersOf(known.Args), early: known.Early && g.early}
	name := append([]byte(k.Name), 0)
	if err := g.call("load", callModuleFunction, uintptr(unsafe.Pointer(&f.handle)), m.handle, uintptr(unsafe.Pointer(&name[0]))); err != nil {
		return nil, compileError(k.Name, g.about.Arch, "", err)
	}
	if err := g.share(f, known.Shared); err != nil {
		return nil, fail.Kernel(k.Name, err)
	}
	kept, _ := g.kernels.functions.LoadOrStore(k, f)
	return kept.(*function), nil
}

// mostDynamicShared is the function attribute for more memory of a block than it may have
// unasked.
const mostDynamicShared = 8

// share lets the blocks of f have bytes of shared memory. Where the GPU has fewer, f is loaded,
// as all kernels are, and cannot be launched. The caller has entered the device.
func (g *device) share(f *function, bytes int) error {
	f.shared = uintptr(bytes)
	if bytes == 0 || bytes > g.about.Shared {
		return nil
	}
	return g.call("load", callFunctionAttribute, f.handle, mostDynamicShared, f.shared)
}

func (t *kernelTable) module(source string) *module {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.modules == nil {
		t.modules = make(map[string]*module)
	}
	m := t.modules[source]
	if m == nil {
		m = new(module)
		t.modules[source] = m
	}
	return m
}

// load brings the code of k's source to the device: from the cache, unless that has
// none or one that the driver does not take.
func (g *device) load(m *module, k *registry.Kernel) error {
	unit, cache := newUnit(k), g.compiler.cache
	entry := g.compiler.entry(unit)
	if code, ok := cache.read(entry); ok && m.load(g, code) == nil {
		return nil
	}
	code, err := g.compiler.compile(unit)
	if err != nil {
		return err
	}
	if err := m.load(g, code); err != nil {
		return compileError(k.Name, g.about.Arch, "", err)
	}
	cache.write(entry, code)
	return nil
}

func (m *module) load(g *device, code []byte) error {
	var handle uintptr
	if err := g.call("load", callModuleLoad, uintptr(unsafe.Pointer(&handle)), uintptr(unsafe.Pointer(&code[0]))); err != nil {
		return err
	}
	m.handle, m.code = handle, code
	return nil
}

func (t *kernelTable) release(g *device) error {
	var errs []error
	for _, m := range t.modules {
		if m.handle != 0 {
			errs = append(errs, g.call("close", callModuleUnload, m.handle))
		}
	}
	t.modules = nil
	t.functions.Clear()
	return errors.Join(errs...)
}

func (g *device) Compile(ctx context.Context, kernels ...*hip.Kernel) error {
	var sources []string
	sharing := map[string][]*hip.Kernel{} // by source, which the first of them compiles
	for _, k := range kernels {
		known := registry.Find(k)
		if known == nil || known.Source == "" {
			continue
		}
		if sharing[known.Source] == nil {
			sources = append(sources, known.Source)
		}
		sharing[known.Source] = append(sharing[known.Source], k)
	}
	todo := make(chan []*hip.Kernel, len(sources))
	for _, source := range sources {
		todo <- sharing[source]
	}
	close(todo)
	var mu sync.Mutex
	var errs []error
	var group sync.WaitGroup
	for range min(len(todo), runtime.GOMAXPROCS(0)) {
		group.Go(func() {
			for kernels := range todo {
				for _, k := range kernels {
					if ctx.Err() != nil {
						return
					}
					if err := g.ready(k); err != nil {
						mu.Lock()
						errs = append(errs, err)
						mu.Unlock()
					}
				}
			}
		})
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return fail.With(err, "compile")
	}
	return errors.Join(errs...)
}

func (g *device) ready(k *hip.Kernel) error {
	t, err := g.enter("compile")
	if err != nil {
		return err
	}
	defer g.leave(t)
	_, err = g.function(k)
	return err
}
