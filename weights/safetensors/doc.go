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
// the tensors of a file is reported together. Its Rule is one of these.
//
// All files: not a regular file; link to a file that is not there; another kind of file (a
// pointer of Git LFS, a web page, GGUF, zip).
//
// Weights: file is too small for a header length; header is too large (over 100 MB); header
// does not fit the file; file is cut short; bytes after the last tensor.
//
// JSON (the error has line and column): text is not UTF-8; text is not JSON (or nests
// deeper than 64); value is not a JSON object; duplicate key; missing key; unknown key;
// value is not a string.
//
// Tensors: unknown dtype; invalid shape; invalid data_offsets; size of tensor overflows;
// tensor ends inside a byte; data_offsets do not fit dtype and shape; hole in the data
// before the tensor; tensor overlaps the one before it.
//
// Folders: no weights; too many files; index is too large; shard path leaves the folder; missing shard;
// tensor is not in the shard that the index names; tensor is not in the index; tensor is in
// two files; file repeats the tensors of another.
//
// Writing: invalid name of a tensor; invalid metadata; data does not fit dtype and shape.
//
// After 100 problems of a file the last one is "more problems", with their number; after 100
// problems of a folder by one rule, there is one more that counts the others.
package safetensors
