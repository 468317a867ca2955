package hip

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/drafthead/drafthead/hip/internal/registry"
)

// Kernel is what a device knows about a kernel. [NewKernel] makes one.
type Kernel struct {
	Name string

	threads  int
	maxError float64
	serves   string
	args     reflect.Type
	twin     func(*Blocks, unsafe.Pointer)
	fast     func(*Blocks, unsafe.Pointer) // nil: the twin
	known    *registry.Kernel
}

// Declared returns what a kernel was declared with. threads is the size of a block on a
// GPU, unless [Grid] says otherwise; if it is 0, Grid must. maxError bounds, for every
// device, |device − reference| ÷ the largest |reference| of what one launch writes;
// integers are always equal. [Check] holds devices to it. serves says in words when the
// kernel is taken among several that compute the same; it is "" if there are no others.
func (k *Kernel) Declared() (threads int, maxError float64, serves string) {
	return k.threads, k.maxError, k.serves
}

// KernelOf is a [Kernel] with arguments of type A: a struct of fixed-size
// fields (Ptr, int32, float32 ...) ordered so that Go and C++ lay it out alike.
type KernelOf[A any] struct {
	Kernel
}

// defaultMaxError bounds the error of float32 results of float32 sums.
const defaultMaxError = 1e-5

// NewKernel declares a kernel by its HIP source (empty: none) and its Go twin, which does
// the blocks b.First … b.End−1. Declare kernels as package variables: names are unique in a
// program. NewKernel panics if the name is taken or if C++ would lay out the argument
// struct otherwise.
//
// A kernel is one operation in two languages, with one argument struct of the same layout in
// both, declared once as a package variable:
//
//	type scaleArgs struct {
//		X, Y hip.Ptr // [N] float32
//		N    int32
//		K    float32
//	}
//
//	const threads = 256 // and values: each thread of a block does one
//
//	var scale = hip.NewKernel("scale", hip.Define("threads", threads)+scaleHIP, scaleTwin).Block(threads)
//
//	func scaleTwin(b *hip.Blocks, a *scaleArgs) { // y = k·x
//		x := hip.In[float32](b, a.X, int(a.N))
//		y := hip.Out[float32](b, a.Y, int(a.N))
//		for i := b.First * threads; i < min(b.End*threads, len(x)); i++ {
//			y[i] = a.K * x[i]
//		}
//	}
//
//	grid := hip.Grid{Blocks: (n + threads - 1) / threads}
//	err := scale.Launch(dev, grid, &scaleArgs{X: x, Y: y, N: int32(n), K: 2})
//
// The twin is the definition of the operation; [KernelOf.Fast] adds a faster Go side for
// [NewHost]. A device calls a twin with a range of blocks, perhaps many times and
// concurrently, for disjoint ranges that together cover the grid. A twin reaches memory
// only through [In] and [Out], so a bad address is an error of the launch, never a bad
// read.
//
// The HIP side is one source for every GPU: a function of the kernel's name, with the
// argument struct as its only parameter and static shared memory. It runs on Grid.Blocks
// blocks of the kernel's threads, in one dimension. A prelude, hip/internal/prelude, comes
// before it: it gives one name to what compilers and vendors name differently, and has what
// the threads of a wave and of a block do together:
//
//	struct Scale { const float *x; float *y; int32 n; float k; };
//	KERNEL(threads) void scale(Scale a) {
//		const int32 i = blockIdx.x * threads + threadIdx.x;
//		if (i < a.n) a.y[i] = a.k * a.x[i];
//	}
func NewKernel[A any](name, source string, twin func(b *Blocks, a *A)) *KernelOf[A] {
	args := reflect.TypeFor[A]()
	if err := checkLayout(args); err != nil {
		panic(fmt.Sprintf("hip: kernel %s: %v", name, err))
	}
	k := &KernelOf[A]{Kernel{Name: name, maxError: defaultMaxError, args: args, twin: erase(twin)}}
	k.known = &registry.Kernel{Name: name, Source: source, Args: args, Of: &k.Kernel}
	if !registry.Add(k.known) {
		panic("hip: two kernels are named " + name)
	}
	return k
}

// Block sets the threads of a block on a GPU, the number in the source's KERNEL(threads),
// and returns k.
func (k *KernelOf[A]) Block(threads int) *KernelOf[A] {
	k.threads = threads
	return k
}

// Instance makes k an instance of a function template in its source, such as
// "scaleRows<4>", and returns k. The template takes the argument struct, which has the name
// of A. threads is the size of a block on a GPU. resident is how many blocks must fit on a
// multiprocessor of an NVIDIA GPU; 0 leaves it to the compiler. serves says in words when
// [Choose] returns the kernel.
//
// Each instance is compiled by itself, so a device can compile several at the same time.
func (k *KernelOf[A]) Instance(template string, threads, resident int, serves string) *KernelOf[A] {
	bounds := fmt.Sprint(threads)
	if resident > 0 {
		bounds = fmt.Sprintf("%d, %d", threads, resident)
	}
	k.known.Source += fmt.Sprintf("KERNEL(%s) void %s(%s a) { %s(a); }\n", bounds, k.Name, k.args.Name(), template)
	k.threads, k.serves = threads, serves
	return k
}

// StartsEarly says that every thread of the kernel calls awaitInput before it reads or
// writes what launches before it write or read, and returns k. A GPU that can then starts
// the kernel's blocks while the last blocks of the launch before it run. See the prelude.
func (k *KernelOf[A]) StartsEarly() *KernelOf[A] {
	k.known.Early = true
	return k
}

// Shared sets the bytes of memory that the threads of a block share beside what the source
// declares, and returns k. See TILES in the prelude. A GPU that has fewer compiles the kernel
// and fails its launch.
func (k *KernelOf[A]) Shared(bytes int) *KernelOf[A] {
	k.known.Shared = bytes
	return k
}

// Fast sets the Go side that [NewHost] runs, and returns k. maxError is the kernel's bound
// (see [Kernel.Declared]); 0 keeps the default of 1e-5.
func (k *KernelOf[A]) Fast(maxError float64, f func(b *Blocks, a *A)) *KernelOf[A] {
	k.fast, k.known.Fast = erase(f), true
	if maxError > 0 {
		k.maxError = maxError
	}
	return k
}

// Launch queues the kernel on d, in blocks of the kernel's threads unless grid sets them. A
// grid of no blocks does nothing.
func (k *KernelOf[A]) Launch(d Device, grid Grid, a *A) error {
	if grid.Blocks == 0 {
		return nil
	}
	if grid.Threads == 0 {
		grid.Threads = k.threads
	}
	return d.Launch(&k.Kernel, grid, unsafe.Pointer(a))
}

func erase[A any](f func(*Blocks, *A)) func(*Blocks, unsafe.Pointer) {
	return func(b *Blocks, args unsafe.Pointer) { f(b, (*A)(args)) }
}

// checkLayout accepts structs of fixed-size numbers without padding, whose
// layout is the same under the Go and the C++ rules.
func checkLayout(t reflect.Type) error {
	if t.Kind() != reflect.Struct {
		return fmt.Errorf("arguments are a %s, want a struct", t.Kind())
	}
	end := uintptr(0)
	for i := range t.NumField() {
		f := t.Field(i)
		switch f.Type.Kind() {
		case reflect.Int32, reflect.Uint32, reflect.Float32, reflect.Int64, reflect.Uint64, reflect.Float64:
		default:
			return fmt.Errorf("field %s is a %s, want a fixed-size number", f.Name, f.Type)
		}
		if f.Offset != end {
			return fmt.Errorf("field %s has padding before it", f.Name)
		}
		end = f.Offset + f.Type.Size()
	}
	if end != t.Size() {
		return fmt.Errorf("%d bytes of padding after the last field", t.Size()-end)
	}
	return nil
}

// Kernels returns all kernels of the program, sorted by name.
func Kernels() []*Kernel {
	known := registry.Kernels()
	all := make([]*Kernel, len(known))
	for i, k := range known {
		all[i] = k.Of.(*Kernel)
	}
	return all
}
