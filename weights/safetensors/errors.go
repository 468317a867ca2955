package safetensors

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// ruleText is a rule in words, and an error of its own, so that errors.Is finds it in
// whatever reports it.
type ruleText string

func (r ruleText) Error() string { return string(r) }

// Is reports what is not there as [fs.ErrNotExist]: a program can ask for another folder,
// or for the rest of the download.
func (r ruleText) Is(target error) bool {
	return target == fs.ErrNotExist && (r == ruleNoWeights || r == ruleMissingShard)
}

// Rules of a file, in the order in which they are checked.
const (
	ruleNotRegular      ruleText = "not a regular file"
	ruleDeadLink        ruleText = "link to a file that is not there"
	ruleOtherKind       ruleText = "another kind of file"
	ruleFileTooSmall    ruleText = "file is too small for a header length"
	ruleHeaderTooLarge  ruleText = "header is too large"
	ruleHeaderTruncated ruleText = "header does not fit the file"
	ruleIndexTooLarge   ruleText = "index is too large"
	ruleNotUTF8         ruleText = "text is not UTF-8"
	ruleNotJSON         ruleText = "text is not JSON"
	ruleNotObject       ruleText = "value is not a JSON object"
	ruleDuplicateKey    ruleText = "duplicate key"
	ruleMissingKey      ruleText = "missing key"
	ruleUnknownKey      ruleText = "unknown key"
	ruleNotString       ruleText = "value is not a string"

	ruleUnknownDtype  ruleText = "unknown dtype"
	ruleShape         ruleText = "invalid shape"
	ruleOffsets       ruleText = "invalid data_offsets"
	ruleSizeOverflow  ruleText = "size of tensor overflows"
	rulePartialByte   ruleText = "tensor ends inside a byte"
	ruleSizeMismatch  ruleText = "data_offsets do not fit dtype and shape"
	ruleHole          ruleText = "hole in the data before the tensor"
	ruleOverlap       ruleText = "tensor overlaps the one before it"
	ruleTruncated     ruleText = "file is cut short"
	ruleTrailingBytes ruleText = "bytes after the last tensor"
	ruleMoreProblems  ruleText = "more problems"
)

// Rules of a folder and its index.
const (
	ruleNoWeights       ruleText = "no weights"
	ruleTooManyFiles    ruleText = "too many files"
	ruleMissingShard    ruleText = "missing shard"
	ruleShardPath       ruleText = "shard path leaves the folder"
	ruleIndexMismatch   ruleText = "tensor is not in the shard that the index names"
	ruleNotInIndex      ruleText = "tensor is not in the index"
	ruleDuplicateTensor ruleText = "tensor is in two files"
	ruleRepeatedFile    ruleText = "file repeats the tensors of another"
)

// Rules of what is to be written.
const (
	ruleName     ruleText = "invalid name of a tensor"
	ruleMetadata ruleText = "invalid metadata"
	ruleData     ruleText = "data does not fit dtype and shape"
)

// FormatError says which rule a file, an index, a folder or a JSON text breaks, and
// where. The rules are
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
// Folders: no weights; too many files; index is too large; shard path leaves the folder;
// missing shard; tensor is not in the shard that the index names; tensor is not in the
// index; tensor is in two files; file repeats the tensors of another.
//
// Writing: invalid name of a tensor; invalid metadata; data does not fit dtype and shape.
//
// After 100 problems of a file the last one is "more problems", with their number; after 100
// problems of a folder by one rule, there is one more that counts the others.
type FormatError struct {
	File   string // the file; "" if there is none or it is the folder
	Tensor string // the tensor; "" if the rule is one of the file
	Key    string // dotted path in the JSON text, within the tensor; may be ""
	Rule   error  // in words: one of those above
	Got    string // what was found, in JSON with its line and column; may be ""
	Want   string // what was wanted; may be ""

	system error // what the operating system says; may be nil
}

// Error returns one line that names all that is known.
func (e *FormatError) Error() string { return "safetensors: " + e.text() }

func (e *FormatError) text() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(Printable(e.File) + ": ")
	}
	if e.Tensor != "" {
		b.WriteString("tensor " + quote(e.Tensor) + ": ")
	}
	if e.Key != "" {
		b.WriteString("key " + quote(e.Key) + ": ")
	}
	b.WriteString(e.Rule.Error())
	if e.Got != "" {
		b.WriteString(": got " + e.Got)
	}
	if e.Want != "" {
		b.WriteString(", want " + e.Want)
	}
	if e.system != nil {
		b.WriteString(": " + e.system.Error())
	}
	return escape(b.String())
}

// Unwrap makes the error match its Rule and what the operating system says.
func (e *FormatError) Unwrap() []error {
	if e.system == nil {
		return []error{e.Rule}
	}
	return []error{e.Rule, e.system}
}

// maxProblems bounds the problems reported of one file: a hostile header of
// 100 MB could hold millions.
const maxProblems = 100

// problems collects the broken rules of one file so that they are reported together.
type problems struct {
	file string
	errs []error
	more int

	spare func(tensor string) bool // whose problems are noted alone; nil: of none
	noted int
	first string // of those that are noted
}

func (p *problems) add(e *FormatError) {
	p.report(e.Tensor, func() *FormatError { return e })
}

// report adds the problem of a tensor, or of the file where that is "". It calls problem
// only where its text is wanted.
func (p *problems) report(tensor string, problem func() *FormatError) {
	if tensor != "" && p.spares(tensor) {
		p.note(problem)
		return
	}
	p.must(problem)
}

// spares reports whether the problems of a tensor are noted alone.
func (p *problems) spares(tensor string) bool { return p.spare != nil && p.spare(tensor) }

// must adds a problem, whosever it is.
func (p *problems) must(problem func() *FormatError) {
	if len(p.errs) == maxProblems {
		p.more++
		return
	}
	e := problem()
	e.File = p.file
	p.errs = append(p.errs, e)
}

// note counts a problem that is not an error.
func (p *problems) note(problem func() *FormatError) {
	if p.noted++; p.noted == 1 {
		e := problem()
		e.File = p.file
		p.first = e.text()
	}
}

// err returns nil, the only problem, or all of them joined.
func (p *problems) err() error {
	switch {
	case p.more > 0:
		last := &FormatError{File: p.file, Rule: ruleMoreProblems, Got: strconv.Itoa(p.more)}
		return errors.Join(append(slices.Clip(p.errs), last)...)
	case len(p.errs) == 1:
		return p.errs[0]
	}
	return errors.Join(p.errs...)
}

// fileError is an error of reading a file, which names it.
type fileError struct {
	file, tensor string
	err          error
}

func (e *fileError) Error() string {
	text := "safetensors: "
	if e.file != "" {
		text += Printable(e.file) + ": "
	}
	if e.tensor != "" {
		text += "tensor " + quote(e.tensor) + ": "
	}
	return escape(text + e.err.Error())
}

func (e *fileError) Unwrap() error { return e.err }

// wholly turns the end of a file before its time into an error.
func wholly(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
