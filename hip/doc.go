// Package hip runs kernels on devices: memory, launch and sync, nothing else.
//
// # What do I need to know to run the head on my device?
//
// A [Device] has nine methods and knows no tensors, shapes or formats. The library has
// four:
//
//   - [NewHost]: the CPU, the default. It uses all cores, the fast Go side of a kernel if
//     there is one, and the caller's memory (a memory-mapped file) in place. Its
//     threads can be bounded.
//
//   - [NewReference]: the CPU as definition. It runs every kernel's plain Go twin, with
//     sums in float64, in one goroutine. Every other device is tested against it.
//
//   - [Open]: a GPU of AMD or NVIDIA, with the same kernels, in programs that import
//     hip/gpu. It looks for the driver at run time; without one it is an [ErrNoDevice].
//
//   - [Check]: any device, with every launch repeated on the reference and compared. It
//     names the first kernel that differs.
//
// A Device of your own wraps one of these, since only this package sees a kernel's
// arguments and twin; a new backend belongs in hip/internal. Package hiptest has the
// conformance suite that every Device must pass.
//
// What else a device can do is a method more, which a function or [As] finds, through
// wrappers too. CPU devices can [Adopt] (use the caller's memory without a copy). A GPU
// can [Import] (share memory and queue with an engine). Some methods are found by an
// interface of the caller's own: a GPU's Fill (read a file straight into upload memory) and
// AllocShared (memory that kernels and the host have in common), and every device's
//
//	CheckRange(p Ptr, n int64, write bool) error
//
// which is an [ErrAccess] unless the n bytes at p lie in one live allocation, adoption or
// import, and may be written if write is set. [Compile] makes kernels ready
// ahead of their first launch. A [Replayer] makes graphs of sequences that are launched
// again and again, if the device has graphs.
//
// # How do several devices work together?
//
// As a [Group]: each device is a rank of it, and all ranks call the same operations in the
// same order, among their launches. GPUs exchange data by RCCL or NCCL, within a process
// ([NewGroup]) or between processes and machines ([JoinGroup]); CPU devices of one process
// by its memory. A rank that fails ends the group for all.
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
// [Choose] takes one of several kernels that compute the same, each for other sizes.
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
package hip
