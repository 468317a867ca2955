// Package safetensors reads and writes safetensors files: tensors with names, element
// types and shapes, and nothing that runs code. It depends on no other package of this
// module.
//
//	byte 0      8              8+n                         size
//	     ┌──────┬──────────────┬──────────────────────────┐
//	     │ n    │ JSON header  │ data section             │
//	     │ u64le│ n bytes      │ begin ──tensor── end     │
//	     └──────┴──────────────┴──────────────────────────┘
//
// # Reading
//
// [Open] opens a file, [OpenFolder] the shards of a folder as one set of tensors, with
// or without an index. Only headers are read. A [Tensor] is an io.ReaderAt over its
// bytes, and [Tensor.Bytes] has them in place: on unix, files that os.DirFS opens are
// memory-mapped, so that processes share one copy; of a folder's, only the pages with tensors
// that are needed. [File.ReadAhead] brings pages in before they are used. The files must not
// change while they are open.
//
// Reading a header or an index takes a few times the memory of its text, whatever it holds.
//
// # Writing
//
// [Write] writes a file from tensors that [NewTensor] describes or that another file holds,
// one after another, in little memory. [Header] returns only the first bytes, for a program
// that writes the data itself.
//
// # What is refused
//
// Every number of a file is checked before it is used as a size, and a file can be read in
// only one way. A [*FormatError] says what is wrong and where, and all that is wrong with
// the tensors of a file is reported together.
package safetensors
