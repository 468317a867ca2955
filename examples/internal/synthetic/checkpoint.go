// Package synthetic makes up checkpoints of the MTP head: random weights in the
// layout, names, dtypes and size of a real one, for tests of size and speed.
//
// A checkpoint is a plan, a few kilobytes for any size: every byte of every file
// is a function of the seed, the tensor's name and the offset, and is made when
// it is read. So what [Checkpoint.FS] serves from memory is what a program
// writes to disk, in whatever pieces and order either is done.
//
// Weights keep activations in range: a matrix is N(0, 1/columns), so that it
// keeps the size of what it is applied to, the router half of that; embeddings
// are N(0, 1); norms, which multiply by 1 + w, N(0, 0.1²).
//
// Everything in a Checkpoint is read only and safe for concurrent use.
package synthetic

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// DefaultShardSize is the most bytes of tensors in a shard, as Hugging Face cuts them.
const DefaultShardSize = 5_000_000_000

// Options say how the weights of a config are made up.
type Options struct {
	// Format is what the matrices of the MTP modules, but for the router, are
	// stored as: weights.MXFP8, also when zero, or weights.BF16. With weights.MXFP4 or
	// weights.NVFP4 those of the routed experts are, and the others weights.MXFP8.
	Format weights.Format
	// Seed chooses the weights.
	Seed uint64
	// ShardSize is the most bytes of tensors in a file, unless one tensor is
	// larger; 0: DefaultShardSize.
	ShardSize int64
}

// Checkpoint is a made-up checkpoint.
type Checkpoint struct {
	tensors    []Tensor
	files      []File
	parameters int64
}

// Tensor is one tensor of a checkpoint.
type Tensor struct {
	Name  string
	Dtype safetensors.Dtype
	Shape []int // as stored: [rows, columns], of four-bit codes [rows, columns/2]; [rows] of a vector

	values stream
}

// Elements returns the number of values.
func (t *Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= int64(d)
	}
	return n
}

// Size returns the bytes that the values take.
func (t *Tensor) Size() int64 { return t.Elements() * int64(t.Dtype.Bits()/8) }

// formats are the values of Options.Format.
var formats = []weights.Format{weights.MXFP8, weights.BF16, weights.MXFP4, weights.NVFP4}

// FormatNames are the names of the values of Options.Format, as programs take them.
const FormatNames = "mxfp8, bf16, mxfp4 or nvfp4"

// FormatOf returns the value of Options.Format that has a name of FormatNames.
func FormatOf(name string) (weights.Format, error) {
	for _, f := range formats {
		if name == strings.ToLower(f.String()) {
			return f, nil
		}
	}
	return 0, fmt.Errorf("%q: want %s", name, FormatNames)
}

// scaleSuffix ends the name of the scales beside a quantized weight.
const scaleSuffix = "_scale_inv"

// New plans a checkpoint of config, which must be one that package mtp accepts.
func New(config Config, opts Options) (*Checkpoint, error) {
	if opts.Format == 0 {
		opts.Format = weights.MXFP8
	}
	if !slices.Contains(formats, opts.Format) {
		return nil, fmt.Errorf("synthetic checkpoint: format %v: want one of %v", opts.Format, formats)
	}
	if opts.ShardSize == 0 {
		opts.ShardSize = DefaultShardSize
	}
	config.Quantization = nil
	params, err := parameters(&config)
	if err != nil {
		return nil, fmt.Errorf("synthetic checkpoint: %w", err)
	}
	b := newBuilder(opts)
	for i := range params {
		if err := b.parameter(&params[i]); err != nil {
			return nil, fmt.Errorf("synthetic checkpoint: %s: %w", params[i].Name, err)
		}
	}
	config.Quantization = quantization(opts.Format, b.plain)
	c := &Checkpoint{tensors: b.tensors, parameters: b.parameters}
	if c.files, err = files(&config, b.tensors, opts.ShardSize); err != nil {
		return nil, fmt.Errorf("synthetic checkpoint: %w", err)
	}
	return c, nil
}

// parameters lets package mtp check the config and say what it consists of.
func parameters(config *Config) ([]weights.Param, error) {
	text, err := config.json()
	if err != nil {
		return nil, err
	}
	parsed, err := mtp.ReadConfig(folder{{configName, bytes.NewReader(text)}})
	if err != nil {
		return nil, err
	}
	return parsed.Parameters(mtp.Shard{}, mtp.Shard{})
}

// Tensors returns all tensors in model order, scales after their weights. The
// slice belongs to the Checkpoint.
func (c *Checkpoint) Tensors() []Tensor { return c.tensors }

// Parameters returns the number of weights, scales not counted.
func (c *Checkpoint) Parameters() int64 { return c.parameters }

// Files returns the files of the checkpoint's folder: the weights, their index
// where there are several shards, and config.json last. The slice belongs to the
// Checkpoint.
func (c *Checkpoint) Files() []File { return c.files }

// Size returns the bytes of all files.
func (c *Checkpoint) Size() (n int64) {
	for _, f := range c.files {
		n += f.Size()
	}
	return n
}

// FS returns the checkpoint's folder. Its files are made as they are read, also
// at random: they are io.ReaderAt.
func (c *Checkpoint) FS() fs.FS { return folder(c.files) }
