package weights

import (
	"errors"
	"strconv"
	"strings"
)

// Rules of a safetensors file and of an index, in the order in which they are
// checked. A violation is a [*FormatError] that wraps one of them.
var (
	// ErrFileTooSmall: the file is shorter than its 8-byte header length.
	ErrFileTooSmall = errors.New("file is too small for a header length")
	// ErrHeaderTooLarge: the header length is over 100 000 000 bytes.
	ErrHeaderTooLarge = errors.New("header is too large")
	// ErrHeaderTruncated: the header ends beyond the end of the file.
	ErrHeaderTruncated = errors.New("header does not fit the file")
	// ErrIndexTooLarge: the index is over 100 000 000 bytes.
	ErrIndexTooLarge = errors.New("index is too large")
	// ErrNotUTF8: the JSON text is not valid UTF-8.
	ErrNotUTF8 = errors.New("text is not UTF-8")
	// ErrNotJSON: the text is not valid JSON.
	ErrNotJSON = errors.New("text is not JSON")
	// ErrNotObject: a JSON object is wanted and something else was found.
	ErrNotObject = errors.New("value is not a JSON object")
	// ErrDuplicateKey: a JSON object names a key twice.
	ErrDuplicateKey = errors.New("duplicate key")
	// ErrMissingKey: a required key is absent.
	ErrMissingKey = errors.New("missing key")
	// ErrUnknownKey: a tensor has a key besides dtype, shape and data_offsets.
	ErrUnknownKey = errors.New("unknown key")
	// ErrNotString: a value of __metadata__ or weight_map is not a string.
	ErrNotString = errors.New("value is not a string")

	// ErrUnknownDtype: the dtype is not one that safetensors names.
	ErrUnknownDtype = errors.New("unknown dtype")
	// ErrShape: the shape is not a list of non-negative integers.
	ErrShape = errors.New("invalid shape")
	// ErrOffsets: data_offsets is not a pair of non-negative integers, the
	// first at most the second.
	ErrOffsets = errors.New("invalid data_offsets")
	// ErrSizeOverflow: the number of elements or of bits overflows.
	ErrSizeOverflow = errors.New("size of tensor overflows")
	// ErrPartialByte: the elements do not fill a whole number of bytes.
	ErrPartialByte = errors.New("tensor ends inside a byte")
	// ErrSizeMismatch: data_offsets hold another size than dtype and shape.
	ErrSizeMismatch = errors.New("data_offsets do not fit dtype and shape")
	// ErrHole: bytes before the tensor belong to none.
	ErrHole = errors.New("hole in the data before the tensor")
	// ErrOverlap: the tensor begins inside the one before it.
	ErrOverlap = errors.New("tensor overlaps the one before it")
	// ErrTruncated: the data ends beyond the end of the file.
	ErrTruncated = errors.New("file is cut short")
	// ErrTrailingBytes: bytes after the last tensor belong to none.
	ErrTrailingBytes = errors.New("bytes after the last tensor")

	// ErrShardPath: the index names a shard by something else than a plain
	// slash-separated path inside its folder.
	ErrShardPath = errors.New("shard path leaves the folder")
	// ErrMoreProblems stands for the problems of a file beyond the first 1000.
	ErrMoreProblems = errors.New("more problems")
)

// Rules of a checkpoint folder. A violation is a [*CheckpointError] that wraps
// one of them.
var (
	// ErrNoWeights: the folder holds neither an index nor a safetensors file,
	// or its index names no tensor.
	ErrNoWeights = errors.New("no weights")
	// ErrMissingShard: a shard that holds a needed tensor does not exist.
	ErrMissingShard = errors.New("missing shard")
	// ErrIndexMismatch: the index places a tensor in a shard that does not hold it.
	ErrIndexMismatch = errors.New("tensor is not in the shard that the index names")
	// ErrNotInIndex: a shard holds a needed tensor that the index does not name.
	ErrNotInIndex = errors.New("tensor is not in the index")
	// ErrDuplicateTensor: two files hold a tensor of the same name.
	ErrDuplicateTensor = errors.New("tensor is in two files")
)

// FormatError says which rule a safetensors file or an index breaks, and where.
type FormatError struct {
	File   string // name of the file
	Tensor string // name of the tensor; empty if the rule is one of the file
	Err    error  // the rule, ErrHole for example
	Got    string // the value found; may be empty
	Want   string // the value wanted; may be empty
}

// Error returns one line: file, tensor, rule, value got and value wanted.
func (e *FormatError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ": ")
	}
	if e.Tensor != "" {
		b.WriteString("tensor " + quote(e.Tensor) + ": ")
	}
	b.WriteString(e.Err.Error())
	if e.Got != "" {
		b.WriteString(": got " + e.Got)
	}
	if e.Want != "" {
		b.WriteString(", want " + e.Want)
	}
	return b.String()
}

// Unwrap returns the rule.
func (e *FormatError) Unwrap() error { return e.Err }

// CheckpointError says which rule a checkpoint folder breaks, and where.
type CheckpointError struct {
	Tensor string // name of the tensor; empty if the rule is one of a file
	File   string // file or shard concerned
	Other  string // second file concerned, where the tensor was found; may be empty
	Err    error  // the rule, ErrMissingShard for example, perhaps with its cause
}

// Error returns one line: file, tensor, rule and the second file.
func (e *CheckpointError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ": ")
	}
	if e.Tensor != "" {
		b.WriteString("tensor " + quote(e.Tensor) + ": ")
	}
	b.WriteString(e.Err.Error())
	if e.Other != "" {
		b.WriteString(" (found in " + e.Other + ")")
	}
	return b.String()
}

// Unwrap returns the rule.
func (e *CheckpointError) Unwrap() error { return e.Err }

// maxProblems bounds the problems reported of one file: a hostile header of
// 100 MB could hold millions.
const maxProblems = 1000

// problems collects the broken rules of one file so that they are reported together.
type problems struct {
	file string
	errs []error
	more int
}

func (p *problems) add(e *FormatError) {
	if len(p.errs) == maxProblems {
		p.more++
		return
	}
	e.File = p.file
	p.errs = append(p.errs, e)
}

// err returns nil, the only problem, or all of them joined.
func (p *problems) err() error {
	switch {
	case p.more > 0:
		last := &FormatError{File: p.file, Err: ErrMoreProblems, Got: strconv.Itoa(p.more)}
		return errors.Join(append(p.errs, last)...)
	case len(p.errs) == 1:
		return p.errs[0]
	}
	return errors.Join(p.errs...)
}

// quote quotes s for a message and cuts it to a readable length.
func quote(s string) string { return strconv.Quote(abbreviate(s)) }

// abbreviate cuts s to a readable length.
func abbreviate(s string) string {
	const limit = 200
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "... (" + byteCount(int64(len(s))) + ")"
}
