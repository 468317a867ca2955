package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/synthetic"
	"github.com/drafthead/drafthead/weights"
)

// source is where the weights come from.
type source struct {
	name     string
	fsys     fs.FS
	inMemory int64 // bytes of weights that this process made itself
	close    func() error
}

// longCache returns about the bytes of a cache of the longest context.
func (s *settings) longCache() int64 {
	c, positions := &s.config, 0
	for _, n := range slices.Concat(defaultContexts, s.contexts) {
		positions = max(positions, min(n, c.MaxPositionEmbeddings))
	}
	keys, index := valueBytes(s.cache)
	return int64(positions) * (int64(2*c.NumKeyValueHeads*c.HeadDim)*keys + int64(c.Sparse.IndexDim)*index)
}

// otherMemory is room for what is neither weights nor cache: buffers of a pass,
// logits, Go's heap.
const otherMemory = 1 << 30

// open opens the checkpoint, or makes weights of a shape in memory.
func (s *settings) open(ctx context.Context, stderr io.Writer) (*source, error) {
	if s.checkpoint != "" {
		files, err := cli.Folder(s.checkpoint)
		if err != nil {
			return nil, err
		}
		return &source{name: s.checkpoint, fsys: files, close: func() error { return nil }}, nil
	}
	checkpoint, err := synthetic.New(s.config, synthetic.Options{Format: s.format})
	if err != nil {
		return nil, err
	}
	if err := checkMemory(checkpoint.Size(), s.longCache(), s.config.NumLocalExperts, availableMemory); err != nil {
		return nil, err
	}
	progress, done := cli.Progress(stderr, "make weights", "bytes")
	memory, err := checkpoint.InMemory(ctx, progress)
	done()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("random weights of shape %s, %d experts", s.shape, s.config.NumLocalExperts)
	if s.format != weights.MXFP8 {
		name += fmt.Sprintf(", %v", s.format)
	}
	return &source{name: name, fsys: memory, inMemory: memory.Size(), close: memory.Close}, nil
}

var errMemory = errors.New("not enough memory")

// checkMemory refuses weights and a cache of these sizes where less is available.
func checkMemory(size, cache int64, experts int, available func() (int64, error)) error {
	free, err := available()
	switch beside := cache + otherMemory; {
	case errors.Is(err, errors.ErrUnsupported):
		return nil
	case err != nil:
		return fmt.Errorf("available memory: %w", err)
	case free < size+beside:
		return fmt.Errorf("%w for %d experts: needed %s of weights and %s beside them, available %s; fewer -experts or a shorter -context need less",
			errMemory, experts, cli.FormatBytes(size), cli.FormatBytes(beside), cli.FormatBytes(free))
	}
	return nil
}
