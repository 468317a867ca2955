package synthetic

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// File is one file of a checkpoint. ReadAt is deterministic and may be called
// from several goroutines.
type File struct {
	Name     string
	contents contents
}

// contents are the bytes of a file: a shard, or a text that was made beforehand.
type contents interface {
	io.ReaderAt
	Size() int64
}

// Size returns the bytes of the file.
func (f *File) Size() int64 { return f.contents.Size() }

// ReadAt makes the bytes from offset off, see io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.contents.ReadAt(p, off) }

// The files beside the shards: indexName says which shard holds which tensor.
const (
	configName = "config.json"
	indexName  = "model.safetensors.index.json"
)

// files cuts the tensors into shards and adds the index, where there are
// several, and config.json.
func files(config *Config, tensors []Tensor, shardSize int64) (files []File, err error) {
	shards := cut(tensors, shardSize)
	index := struct {
		Metadata struct {
			TotalSize int64 `json:"total_size"` // bytes of tensors
		} `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}{WeightMap: make(map[string]string)}
	for i, in := range shards {
		name := "model.safetensors"
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		s, err := newShard(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files = append(files, File{name, s})
		for _, t := range in {
			index.WeightMap[t.Name] = name
			index.Metadata.TotalSize += t.Size()
		}
	}
	if len(shards) > 1 {
		text, err := json.MarshalIndent(index, "", "  ")
		if err != nil {
			return nil, err
		}
		files = append(files, File{indexName, bytes.NewReader(append(text, '\n'))})
	}
	text, err := config.json()
	return append(files, File{configName, bytes.NewReader(text)}), err
}

// cut fills shards with the tensors in order, each up to size bytes.
func cut(tensors []Tensor, size int64) (shards [][]*Tensor) {
	room := int64(0)
	for i := range tensors {
		t := &tensors[i]
		if len(shards) == 0 || t.Size() > room {
			shards, room = append(shards, nil), size
		}
		last := len(shards) - 1
		shards[last], room = append(shards[last], t), room-t.Size()
	}
	return shards
}

// shard is a safetensors file.
//
//	ends[0]      ends[1]                       ends[len(tensors)] = size
//	┌────────────┬─────────────┬─────┬─────────────┐
//	│ n, header  │ tensors[0]  │  …  │ tensors[k]  │   widest dtype first
//	└────────────┴─────────────┴─────┴─────────────┘
//
// The header is a multiple of 8 bytes, so that every tensor is aligned to its dtype.
type shard struct {
	header  []byte // with its length before it
	tensors []*Tensor
	ends    []int64 // where the header and each tensor end
}

func newShard(tensors []*Tensor) (*shard, error) {
	s := &shard{tensors: slices.Clone(tensors)}
	slices.SortStableFunc(s.tensors, func(a, b *Tensor) int { return cmp.Compare(b.Dtype.Bits(), a.Dtype.Bits()) })
	described := make([]*safetensors.Tensor, len(s.tensors))
	for i, t := range s.tensors {
		described[i] = safetensors.NewTensor(t.Name, t.Dtype, t.Shape, nil)
	}
	var err error
	if s.header, err = safetensors.Header(map[string]string{"format": "pt"}, described); err != nil {
		return nil, err
	}
	end := int64(len(s.header))
	s.ends = append(s.ends, end)
	for _, t := range s.tensors {
		end += t.Size()
		s.ends = append(s.ends, end)
	}
	return s, nil
}

// Size returns the bytes of the file.
func (s *shard) Size() int64 { return s.ends[len(s.ends)-1] }

var errNegativeOffset = errors.New("read at a negative offset")

// ReadAt is as io.ReaderAt has it.
func (s *shard) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errNegativeOffset
	}
	if left := s.Size() - off; int64(len(p)) > left {
		p, err = p[:max(left, 0)], io.EOF
	}
	part := sort.Search(len(s.ends), func(i int) bool { return s.ends[i] > off })
	for ; n < len(p); part++ {
		at := off + int64(n)
		to := p[n:min(int64(len(p)), s.ends[part]-off)]
		if part == 0 {
			copy(to, s.header[at:])
		} else {
			s.tensors[part-1].values.readAt(to, at-s.ends[part-1])
		}
		n += len(to)
	}
	return n, err
}
