package weights

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Checkpoint is a folder of safetensors files opened as one set of tensors. Its
// methods may be called from several goroutines at once.
type Checkpoint struct {
	files    []*File
	tensors  []*Tensor // sorted by name
	byName   map[string]*Tensor
	unopened []UnopenedShard
}

// UnopenedShard is a shard that holds no needed tensor. It may be absent.
type UnopenedShard struct {
	Name    string
	Tensors []string // the names that the index gives for it, sorted
}

// OpenCheckpoint opens the checkpoint in the top folder of fsys.
//
// Where there is an index ([IndexName]), only the shards that it says hold a
// needed tensor are opened: a draft head bundled with its target is a few of
// hundreds of gigabytes, and the other shards may be absent. Without an index
// every *.safetensors file of the folder is opened, whatever its name, but for hidden
// ones: a copy beside the original repeats its tensors and is refused. A nil needed
// stands for all tensors.
//
// The index must be true of the opened shards: see [ErrMissingShard],
// [ErrIndexMismatch], [ErrNotInIndex] and [ErrDuplicateTensor]. Whatever is
// wrong with any of them is reported together, as [*FormatError],
// [*CheckpointError] and [*RepeatedFileError] behind errors.Join, and nothing stays open.
func OpenCheckpoint(fsys fs.FS, needed func(tensor string) bool) (*Checkpoint, error) {
	if needed == nil {
		needed = func(string) bool { return true }
	}
	index, err := ReadIndex(fsys)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	c := &Checkpoint{byName: make(map[string]*Tensor)}
	var names []string
	if index != nil {
		names = c.selectShards(index, needed)
		if len(index.WeightMap) == 0 {
			return nil, &CheckpointError{File: IndexName, Err: ErrNoWeights}
		}
	} else if names, err = weightFiles(fsys); err != nil {
		return nil, err
	}
	errs := c.open(fsys, names)
	errs = append(errs, c.collect()...)
	if index != nil {
		errs = append(errs, c.compare(index, needed)...)
	}
	if len(errs) > 0 {
		return nil, errors.Join(append(errs, c.Close())...)
	}
	return c, nil
}

// weightFiles lists the safetensors files of a folder without an index, sorted.
func weightFiles(fsys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		// Hidden files are not weights: macOS leaves "._model.safetensors" behind.
		if name := e.Name(); !e.IsDir() && path.Ext(name) == ".safetensors" && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, &CheckpointError{Err: fmt.Errorf("%w: neither %s nor *.safetensors", ErrNoWeights, IndexName)}
	}
	return names, nil
}

// selectShards returns the shards with a needed tensor, sorted, and notes the others.
func (c *Checkpoint) selectShards(index *Index, needed func(string) bool) []string {
	var names []string
	shards := index.shards()
	for _, shard := range slices.Sorted(maps.Keys(shards)) {
		if tensors := shards[shard]; slices.ContainsFunc(tensors, needed) {
			names = append(names, shard)
		} else {
			c.unopened = append(c.unopened, UnopenedShard{Name: shard, Tensors: tensors})
		}
	}
	return names
}

// open opens the files and returns what is wrong with them.
func (c *Checkpoint) open(fsys fs.FS, names []string) (errs []error) {
	for _, name := range names {
		f, err := OpenFile(fsys, name)
		switch {
		case err == nil:
			c.files = append(c.files, f)
		case errors.Is(err, fs.ErrNotExist):
			errs = append(errs, &CheckpointError{File: name, Err: fmt.Errorf("%w: %w", ErrMissingShard, err)})
		default:
			errs = append(errs, err)
		}
	}
	return errs
}

// collect gathers the tensors of all files and returns those found twice.
func (c *Checkpoint) collect() (errs []error) {
	before := make(map[string]*File, len(c.files))
	for _, f := range c.files {
		var duplicates []*CheckpointError
		for _, t := range f.Tensors() {
			if first, found := c.byName[t.Name]; found {
				duplicates = append(duplicates, &CheckpointError{
					Tensor: t.Name, File: f.Name(), Other: first.File().Name(), Err: ErrDuplicateTensor,
				})
				continue
			}
			c.byName[t.Name] = t
			c.tensors = append(c.tensors, t)
		}
		errs = append(errs, repeated(f, duplicates, before)...)
		before[f.Name()] = f
	}
	slices.SortFunc(c.tensors, func(a, b *Tensor) int { return cmp.Compare(a.Name, b.Name) })
	return errs
}

// compare returns where the index and the opened files contradict each other.
func (c *Checkpoint) compare(index *Index, needed func(string) bool) (errs []error) {
	opened := make(map[string]*File, len(c.files))
	for _, f := range c.files {
		opened[f.Name()] = f
	}
	holder := func(tensor string) string {
		if t, found := c.byName[tensor]; found {
			return t.File().Name()
		}
		return ""
	}
	for _, tensor := range slices.Sorted(maps.Keys(index.WeightMap)) {
		shard := index.WeightMap[tensor]
		f := opened[shard]
		if f == nil {
			// The shard is not open: unneeded, missing or broken. If the tensor
			// turns up in another file, the index is wrong about it.
			if other := holder(tensor); other != "" && needed(tensor) {
				errs = append(errs, &CheckpointError{Tensor: tensor, File: shard, Other: other, Err: ErrIndexMismatch})
			}
			continue
		}
		if _, found := f.Tensor(tensor); !found {
			errs = append(errs, &CheckpointError{Tensor: tensor, File: shard, Other: holder(tensor), Err: ErrIndexMismatch})
		}
	}
	for _, t := range c.tensors {
		if _, found := index.WeightMap[t.Name]; !found && needed(t.Name) {
			errs = append(errs, &CheckpointError{Tensor: t.Name, File: t.File().Name(), Err: ErrNotInIndex})
		}
	}
	return errs
}

// Files returns the opened files, sorted by name. The slice belongs to the Checkpoint.
func (c *Checkpoint) Files() []*File { return c.files }

// Tensors returns the tensors of all opened files, needed or not, sorted by
// name. The slice belongs to the Checkpoint.
func (c *Checkpoint) Tensors() []*Tensor { return c.tensors }

// Tensor returns the tensor of that name in the opened files.
func (c *Checkpoint) Tensor(name string) (*Tensor, bool) {
	t, ok := c.byName[name]
	return t, ok
}

// Unopened returns the shards of the index that were left closed, sorted by name.
func (c *Checkpoint) Unopened() []UnopenedShard { return c.unopened }

// Close closes all files; see [File.Close]. It is a no-op the second time.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
