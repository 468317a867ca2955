package safetensors

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Folder is a folder of safetensors files opened as one set of tensors. Its methods may
// be called from several goroutines at once.
type Folder struct {
	files   []*File   // sorted by name
	tensors []*Tensor // sorted by name
	byName  map[string]*Tensor
	index   map[string]string
	copies  map[string]string // a file that holds a tensor which the index assigns to another
	notes   []string
}

// maxFiles bounds the files of a folder, each of which takes a mapping or a descriptor, of
// which a process has some ten thousands.
const maxFiles = 4096

// OpenFolder opens the files in the top folder of fsys.
//
// If there is an index, model.safetensors.index.json, OpenFolder opens only the files that
// hold a needed tensor by the index. The others may be absent: a program may take a few
// tensors out of hundreds of gigabytes. Without an index it opens every *.safetensors file
// of the folder, except hidden ones. A copy beside the original repeats its tensors and is
// refused. A nil needed stands for all tensors.
//
// The index decides: a needed tensor is read from the file that it names, and must be
// there. A copy in another file is not read, and what is wrong with tensors that are not
// needed is not an error: [Folder.Notes] has both. Without an index no two files may hold
// the same tensor. Whatever is wrong is reported together, as [*FormatError]s that
// errors.Join joins, and nothing stays open. Where there are no weights, or a shard is
// missing, the error matches fs.ErrNotExist.
func OpenFolder(fsys fs.FS, needed func(tensor string) bool) (*Folder, error) {
	if needed == nil {
		needed = func(string) bool { return true }
	}
	index, err := readIndex(fsys)
	indexed := err == nil
	if err != nil && (errors.Is(err, ruleDeadLink) || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	c := &Folder{byName: make(map[string]*Tensor), index: index, copies: make(map[string]string)}
	var names []string
	if indexed {
		names = selectShards(index, needed)
		if len(index) == 0 {
			return nil, &FormatError{File: indexName, Rule: ruleNoWeights}
		}
	} else if names, err = weightFiles(fsys); err != nil {
		return nil, err
	}
	if len(names) > maxFiles {
		return nil, &FormatError{Rule: ruleTooManyFiles, Got: strconv.Itoa(len(names)), Want: "at most " + strconv.Itoa(maxFiles)}
	}
	errs := c.open(fsys, names)
	errs = append(errs, c.collect(needed)...)
	if indexed {
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
		return nil, &fileError{err: err}
	}
	var names []string
	for _, e := range entries {
		// Hidden files are not weights: macOS leaves "._model.safetensors" behind.
		if name := e.Name(); !e.IsDir() && path.Ext(name) == ".safetensors" && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, &FormatError{Rule: ruleNoWeights, Want: indexName + " or *.safetensors"}
	}
	return names, nil
}

// selectShards returns the shards with a needed tensor, sorted.
func selectShards(index map[string]string, needed func(string) bool) []string {
	shards := make(map[string]bool)
	for tensor, shard := range index {
		if needed(tensor) {
			shards[shard] = true
		}
	}
	return slices.Sorted(maps.Keys(shards))
}

// open opens the files and returns what is wrong with them.
func (c *Folder) open(fsys fs.FS, names []string) (errs []error) {
	for _, name := range names {
		f, err := Open(fsys, name)
		switch {
		case err == nil:
			c.files = append(c.files, f)
		case errors.Is(err, ruleDeadLink):
			e, _ := errors.AsType[*FormatError](err)
			e.Rule = ruleMissingShard
			errs = append(errs, e)
		case errors.Is(err, fs.ErrNotExist):
			errs = append(errs, &FormatError{File: name, Rule: ruleMissingShard, system: errors.Unwrap(err)})
		default:
			errs = append(errs, err)
		}
	}
	return errs
}

// collect gathers the tensors of all files and returns those found twice.
func (c *Folder) collect(needed func(string) bool) (errs []error) {
	before := make(map[string]*File, len(c.files))
	for _, f := range c.files {
		var duplicates []duplicate
		for _, t := range f.Tensors() {
			if shard, indexed := c.index[t.Name]; indexed && shard != f.Name() {
				c.copies[t.Name] = f.Name()
				continue
			}
			first, found := c.byName[t.Name]
			if found && c.index != nil && !needed(t.Name) {
				c.copies[t.Name] = f.Name()
				continue
			}
			if found {
				duplicates = append(duplicates, duplicate{t.Name, first.File().Name()})
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
func (c *Folder) compare(index map[string]string, needed func(string) bool) (errs []error) {
	opened := make(map[string]*File, len(c.files))
	for _, f := range c.files {
		opened[f.Name()] = f
	}
	var absent []*FormatError // tensors that are not needed
	mismatch := func(tensor, shard string) {
		e := &FormatError{Tensor: tensor, File: shard, Rule: ruleIndexMismatch}
		if other, found := c.copies[tensor]; found {
			e.Got = foundIn(other)
			delete(c.copies, tensor)
		}
		if !needed(tensor) {
			absent = append(absent, e)
			return
		}
		errs = append(errs, e)
	}
	for _, tensor := range slices.Sorted(maps.Keys(index)) {
		shard := index[tensor]
		f := opened[shard]
		if f == nil {
			// The shard is not open: unneeded, missing or broken. If the tensor
			// turns up in another file, the index is wrong about it.
			if _, elsewhere := c.copies[tensor]; elsewhere && needed(tensor) {
				mismatch(tensor, shard)
			}
			continue
		}
		if _, found := f.Tensor(tensor); !found {
			mismatch(tensor, shard)
		}
	}
	for _, t := range c.tensors {
		if _, found := index[t.Name]; !found && needed(t.Name) {
			errs = append(errs, &FormatError{Tensor: t.Name, File: t.File().Name(), Rule: ruleNotInIndex})
		}
	}
	if len(absent) > 0 {
		c.notes = append(c.notes, fmt.Sprintf("tensors that are not needed and not in the shard that the index names: %d, the first %s in %s", len(absent), Printable(absent[0].Tensor), Printable(absent[0].File)))
	}
	if len(c.copies) > 0 {
		first := slices.Min(slices.Collect(maps.Keys(c.copies)))
		c.notes = append(c.notes, fmt.Sprintf("copies of tensors in files that the index does not name for them, which are not read: %d, the first %s in %s", len(c.copies), Printable(first), Printable(c.copies[first])))
	}
	return errs
}

// Notes says where the files hold what the index does not count on: copies of tensors in
// other files than it names, and tensors that are not needed and not there. The slice
// belongs to the Folder.
func (c *Folder) Notes() []string { return c.notes }

// foundIn names the file that a tensor was found in.
func foundIn(file string) string { return "it in " + Printable(file) }

// Tensors returns the tensors of all opened files, needed or not, sorted by
// name. The slice belongs to the Folder.
func (c *Folder) Tensors() []*Tensor { return c.tensors }

// Tensor returns the tensor of that name in the opened files.
func (c *Folder) Tensor(name string) (*Tensor, bool) {
	t, ok := c.byName[name]
	return t, ok
}

// Index returns the file of each tensor as the folder's index names it, including those of
// files that were not opened; nil if there is no index. The map belongs to the Folder.
func (c *Folder) Index() map[string]string { return c.index }

// Close closes all files; see [File.Close]. It is a no-op the second time.
func (c *Folder) Close() error {
	var errs []error
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
