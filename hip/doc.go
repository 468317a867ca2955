// Package hip runs kernels on devices: memory, launch and sync, nothing else.
//
// # What do I need to know to run the head on my device?
//
// A [Device] has nine methods and knows no tensors, shapes or formats. Four
// come with the library:
//
//   - [NewHost]: the CPU, the default. All cores, fast variants where a kernel
//     has one, memory of the caller (a memory-mapped file) used in place.
//     [HostOptions] bound its threads and its vector instructions.
//   - [NewReference]: the CPU as definition. Every kernel's plain Go twin,
//     sums in float64, one goroutine. All else is tested against it.
//   - [Open]: a GPU, AMD's through HIP and NVIDIA's through the same kernels, in
//     programs that import hip/gpu. The driver is looked for at run time; a machine
//     without one says so.
//   - [Check]: any device, with every launch repeated on the reference and
//     compared. It names the first kernel that differs.
//
// Anything more that a device can do is a small interface that [As] finds, through
// wrappers too: [Adopter] (use the caller's memory without a copy), and on a GPU
// [Importer] (share memory and queue with an engine), [Filler] (read a file straight into
// upload memory) and [Sharer] (memory that kernels and the host have in common). [Compile]
// makes kernels ready ahead of their first launch, and a
// [Replayer] makes graphs of what is launched again and again, where there are graphs.
//
// # What is a kernel?
//
// One operation in two languages, with one argument struct of the same layout
// in both, declared once as a package variable:
//
//	type scaleArgs struct {
//		X, Y hip.Ptr // [N] float32
//		N    int32
//		K    float32
//	}
//
//	const threads = 256
//
//	var scale = hip.NewKernel("scale", hip.Define("threads", threads)+scaleHIP, scaleTwin).Block(threads)
//
//	func scaleTwin(b *hip.Blocks, a *scaleArgs) { // y = k·x
//		x := hip.In[float32](b, a.X, int(a.N))
//		y := hip.Out[float32](b, a.Y, int(a.N))
//		for i := b.First; i < b.End; i++ {
//			y[i] = a.K * x[i]
//		}
//	}
//
//	err := scale.Launch(dev, hip.Grid{Blocks: n}, &scaleArgs{X: x, Y: y, N: n, K: 2})
//
// Several kernels that compute the same, each for other sizes, are the rows of a table:
// [Choose].
//
// The twin states the mathematics and is the definition; [KernelOf.Fast] adds a Go side
// for [NewHost]. A twin is given a range of blocks and may be called
// many times, concurrently, for disjoint ranges that together cover the grid.
// It reaches memory only through [In] and [Out], so an address that belongs to
// no allocation is an error of the launch, never a bad read.
//
// The HIP side is one source for every GPU: a function of the kernel's name with
// the argument struct as its only parameter, on a grid of Grid.Blocks blocks of the
// kernel's threads in one dimension, with static shared memory. It is compiled
// after a prelude, hip/internal/prelude, which has one name for what compilers and vendors
// name differently, and what the threads of a wave and of a block do together:
//
//	struct Scale { const float *x; float *y; int32 n; float k; };
//	KERNEL(threads) void scale(Scale a) { … }
package hip
