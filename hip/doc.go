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
// wrappers too. CPU devices can [Adopt] the caller's memory without a copy, and a GPU can
// [Import] that of an engine. [Device] lists the others.
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
// One operation in two languages, with one argument struct of the same layout in both:
// [NewKernel] has an example. The Go twin is the definition, which every device is compared
// with, and the HIP side is one source for every GPU. [Choose] takes one of several kernels
// that compute the same, each for other sizes. [Compile] makes kernels ready ahead of their
// first launch. A [Replayer] makes graphs of sequences that are launched again and again, if
// the device has graphs.
package hip
