// Package registry holds what parts of a program register with package hip: its kernels,
// the opener of GPUs, and how hosts are bounded. Packages in hip/internal and hip/hiptest
// read here what nobody else needs.
package registry

import (
	"cmp"
	"reflect"
	"slices"
	"sync"
)

// Kernel is what compiles a kernel, and tests of it, need to know.
type Kernel struct {
	Name   string
	Source string       // HIP C++; empty: the kernel has no GPU side
	Args   reflect.Type // the argument struct
	Fast   bool         // the host runs a variant of its own
	Shared int          // bytes that a block needs beside what the source declares
	Early  bool         // it may start before the launch before it has ended
	Of     any          // the *hip.Kernel
}

var kernels struct {
	sync.Mutex // for variables that tests declare; a program's are declared before main
	byName     map[string]*Kernel
	of         map[any]*Kernel
}

// Add registers a kernel. It reports whether the name was free.
func Add(k *Kernel) bool {
	kernels.Lock()
	defer kernels.Unlock()
	if kernels.byName == nil {
		kernels.byName, kernels.of = make(map[string]*Kernel), make(map[any]*Kernel)
	}
	if kernels.byName[k.Name] != nil {
		return false
	}
	kernels.byName[k.Name], kernels.of[k.Of] = k, k
	return true
}

// Find returns what is known of a *hip.Kernel, or nil where it was not registered.
func Find(k any) *Kernel {
	kernels.Lock()
	defer kernels.Unlock()
	return kernels.of[k]
}

// Kernels returns all kernels of the program, by name.
func Kernels() []*Kernel {
	kernels.Lock()
	defer kernels.Unlock()
	all := make([]*Kernel, 0, len(kernels.byName))
	for _, k := range kernels.byName {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b *Kernel) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

var opener any

// SetOpener is called while a program starts, by package hip/gpu. What it gives has the
// methods that hip.Open calls.
func SetOpener(o any) { opener = o }

// Opener returns what SetOpener was given, or nil.
func Opener() any { return opener }

var host func(threads, level, activations int) any

// SetHost is called while a program starts, by package hip.
func SetHost(bounded func(threads, level, activations int) any) { host = bounded }

// Host returns a hip.Device of the CPU with that many threads, 0 for one per usable core,
// that uses vector instructions up to a level, which is a hip.SIMD, and rounds what products
// multiply as a hip.Activations says.
func Host(threads, level, activations int) any { return host(threads, level, activations) }
