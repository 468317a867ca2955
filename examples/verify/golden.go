package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// golden is the expected outputs of a case folder: golden.safetensors.
type golden struct {
	file *safetensors.File
}

func openGolden(fsys fs.FS) (*golden, error) {
	file, err := safetensors.Open(fsys, "golden.safetensors")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; want a checkpoint's folder with that file in it", err)
	}
	if err != nil {
		return nil, err
	}
	return &golden{file}, nil
}

// cacheFormat is how the case keeps keys and values, as the metadata say.
func (g *golden) cacheFormat() (attention.CacheFormat, error) {
	said := g.file.Metadata()
	switch cache, index := said["cache"], said["index_cache"]; {
	case cache == "" && index == "":
		return attention.CacheF32, nil
	case cache == "fp8" && index == "bf16":
		return attention.CacheFP8, nil
	case cache == "fp8" && index == "fp8":
		return attention.CacheFP8Index, nil
	default:
		return 0, fmt.Errorf("golden.safetensors: cache %q with index_cache %q is not known", cache, index)
	}
}

func (g *golden) close() error { return g.file.Close() }

func (g *golden) has(name string) bool {
	_, ok := g.file.Tensor(name)
	return ok
}

// raw returns a tensor's bytes and shape, if it has one of the dtypes.
func (g *golden) raw(name string, dtypes ...safetensors.Dtype) ([]byte, *safetensors.Tensor, error) {
	t, ok := g.file.Tensor(name)
	if !ok {
		return nil, nil, fmt.Errorf("golden.safetensors: no tensor %s", name)
	}
	for _, d := range dtypes {
		if t.Dtype == d {
			b := make([]byte, t.Size())
			_, err := t.ReadAt(b, 0)
			return b, t, err
		}
	}
	return nil, nil, fmt.Errorf("golden.safetensors: %s is %v, want one of %v", name, t.Dtype, dtypes)
}

func (g *golden) floats(name string) ([]float32, error) {
	b, _, err := g.raw(name, safetensors.F32)
	if err != nil {
		return nil, err
	}
	out := make([]float32, len(b)/4)
	_, err = binary.Decode(b, binary.LittleEndian, out)
	return out, err
}

// ints returns an I64 or I32 tensor.
func (g *golden) ints(name string) ([]int32, error) {
	b, t, err := g.raw(name, "I64", "I32")
	if err != nil {
		return nil, err
	}
	size := t.Dtype.Bits() / 8
	out := make([]int32, len(b)/size)
	for i := range out {
		if size == 4 {
			out[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
			continue
		}
		v := int64(binary.LittleEndian.Uint64(b[8*i:]))
		if v != int64(int32(v)) {
			return nil, fmt.Errorf("golden.safetensors: %s[%d] is %d, want an int32", name, i, v)
		}
		out[i] = int32(v)
	}
	return out, nil
}

// prompt is the input of a case.
type prompt struct {
	tokens    []int32 // row i: the token after position i
	sequence  []int32 // t₀ … t₍T₎
	positions []int32
	hidden    []float32
	rows      []int32 // whose stages are stored
}

func (g *golden) prompt() (p prompt, err error) {
	for _, part := range []struct {
		name string
		to   *[]int32
	}{{"in.tokens", &p.tokens}, {"in.seq_tokens", &p.sequence}, {"in.positions", &p.positions}, {"rows", &p.rows}} {
		if *part.to, err = g.ints(part.name); err != nil {
			return p, err
		}
	}
	if p.hidden, err = g.floats("in.target_hidden"); err != nil {
		return p, err
	}
	n := len(p.tokens)
	if n == 0 || len(p.sequence) != n+1 || len(p.positions) != n || len(p.hidden)%n != 0 {
		return p, fmt.Errorf("golden.safetensors: %d tokens, %d of the sequence, %d positions, %d hidden values do not fit together",
			n, len(p.sequence), len(p.positions), len(p.hidden))
	}
	for i, position := range p.positions {
		if int(position) != i {
			return p, fmt.Errorf("golden.safetensors: in.positions[%d] is %d, want %d", i, position, i)
		}
	}
	for i, row := range p.rows {
		if row < 0 || int(row) >= n {
			return p, fmt.Errorf("golden.safetensors: rows[%d] is %d, want 0 to %d", i, row, n-1)
		}
	}
	return p, nil
}
