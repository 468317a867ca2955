package safetensors

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"iter"
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
	index   *index    // nil: there is none
	copies  []*Tensor // in other files than the index says, sorted by name
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
// What is wrong with tensors that are not needed is not an error: an unknown dtype, offsets
// that fit neither shape nor file, holes beside them, an overlap of two. Such a tensor is
// left out, and [Folder.Notes] counts them. A needed tensor must be sound, and none of its
// bytes another's. Only the pages with needed tensors of a file of the operating system are
// mapped.
//
// The index decides: a needed tensor is read from the file that it names, and must be
// there. A copy in another file is not read; the notes have these too. Without an index no
// two files may hold the same tensor. Whatever is wrong is reported together, as
// [*FormatError]s that errors.Join joins, and nothing stays open. Where there are no
// weights, or a shard is missing, the error matches fs.ErrNotExist.
func OpenFolder(fsys fs.FS, needed func(tensor string) bool) (*Folder, error) {
	all := func(string) bool { return true }
	if needed != nil {
		all = needed
	}
	index, err := readIndex(fsys)
	if err != nil && (errors.Is(err, ruleDeadLink) || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	c := &Folder{index: index}
	var names []string
	if index != nil {
		if index.tensors.n == 0 {
			return nil, &FormatError{File: indexName, Rule: ruleNoWeights}
		}
		names = selectShards(index, all)
	} else if names, err = weightFiles(fsys); err != nil {
		return nil, err
	}
	if len(names) > maxFiles {
		return nil, &FormatError{Rule: ruleTooManyFiles, Got: strconv.Itoa(len(names)), Want: "at most " + strconv.Itoa(maxFiles)}
	}
	var found findings
	c.open(fsys, names, needed, &found)
	c.collect(all, &found)
	if index != nil {
		c.compare(all, &found)
	}
	c.noteFaults()
	if err := found.err(); err != nil {
		return nil, errors.Join(err, c.Close())
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

// selectShards returns the shards with a needed tensor, sorted; more than maxFiles where
// there are too many.
func selectShards(index *index, needed func(string) bool) []string {
	shards := make(map[string]bool)
	for tensor, shard := range index.all() {
		if len(shards) <= maxFiles && needed(tensor) {
			shards[shard] = true
		}
	}
	return slices.Sorted(maps.Keys(shards))
}

// open opens the files and reports what is wrong with them.
func (c *Folder) open(fsys fs.FS, names []string, needed func(string) bool, found *findings) {
	pieces := max(1, min(maxPieces, maxMappings/max(1, len(names))))
	for _, name := range names {
		f, err := openFile(fsys, name, needed, pieces)
		switch {
		case err == nil:
			c.files = append(c.files, f)
		case errors.Is(err, ruleDeadLink):
			e, _ := errors.AsType[*FormatError](err)
			found.report(ruleMissingShard, func() *FormatError { return e })
		case errors.Is(err, fs.ErrNotExist):
			found.report(ruleMissingShard, func() *FormatError { return &FormatError{File: name, system: errors.Unwrap(err)} })
		default:
			found.join(err)
		}
	}
}

// collect gathers the tensors of all files and reports those found twice.
func (c *Folder) collect(needed func(string) bool, found *findings) {
	n := 0
	for _, f := range c.files {
		n += len(f.tensors)
	}
	all := make([]*Tensor, 0, n)
	for _, f := range c.files {
		for _, t := range f.tensors {
			if shard, indexed := c.index.shard(t.Name); indexed && shard != f.name {
				c.copies = append(c.copies, t)
			} else {
				all = append(all, t)
			}
		}
	}
	byName := func(a, b *Tensor) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortStableFunc(all, byName)
	c.tensors = all[:0]
	again := make(map[*File][]duplicate)
	for _, t := range all {
		last := len(c.tensors) - 1
		switch {
		case last < 0 || c.tensors[last].Name != t.Name:
			c.tensors = append(c.tensors, t)
		case c.index != nil && !needed(t.Name):
			c.copies = append(c.copies, t)
		default:
			again[t.file] = append(again[t.file], duplicate{t, c.tensors[last].file})
		}
	}
	slices.SortStableFunc(c.copies, byName)
	for _, f := range c.files {
		repeated(f, again[f], found)
	}
}

// compare reports where the index and the opened files contradict each other.
func (c *Folder) compare(needed func(string) bool, found *findings) {
	opened := make(map[string]*File, len(c.files))
	for _, f := range c.files {
		opened[f.name] = f
	}
	absent := first{} // tensors that are not needed
	named := make([]bool, len(c.copies))
	for tensor, shard := range c.index.all() {
		f := opened[shard]
		copied, elsewhere := slices.BinarySearchFunc(c.copies, tensor, func(t *Tensor, name string) int { return cmp.Compare(t.Name, name) })
		if f == nil {
			// The shard is not open: unneeded, missing or broken. If the tensor
			// turns up in another file, the index is wrong about it.
			if !elsewhere || !needed(tensor) {
				continue
			}
		} else if _, there := f.Tensor(tensor); there || f.faulty(tensor) {
			continue
		}
		got := ""
		if elsewhere {
			got = foundIn(c.copies[copied].file.name)
			named[copied] = true
		}
		if needed(tensor) {
			found.report(ruleIndexMismatch, func() *FormatError { return &FormatError{Tensor: tensor, File: shard, Got: got} })
		} else {
			absent.add(tensor, shard)
		}
	}
	for _, t := range c.tensors {
		if _, indexed := c.index.shard(t.Name); !indexed && needed(t.Name) {
			found.report(ruleNotInIndex, func() *FormatError { return &FormatError{Tensor: t.Name, File: t.file.name} })
		}
	}
	copies := first{}
	for i, t := range c.copies {
		if !named[i] {
			copies.add(t.Name, t.file.name)
		}
	}
	if absent.n > 0 {
		c.notes = append(c.notes, "tensors that are not needed and not in the shard that the index names: "+absent.String())
	}
	if copies.n > 0 {
		c.notes = append(c.notes, "copies of tensors in files that the index does not name for them, which are not read: "+copies.String())
	}
}

// first counts tensors and knows the first by name.
type first struct {
	n            int
	tensor, file string
}

func (f *first) add(tensor, file string) {
	if f.n++; f.n == 1 || tensor < f.tensor {
		f.tensor, f.file = tensor, file
	}
}

func (f *first) String() string {
	return fmt.Sprintf("%d, the first %s in %s", f.n, Printable(f.tensor), Printable(f.file))
}

// noteFaults says what is wrong with tensors that are not needed.
func (c *Folder) noteFaults() {
	n, files, example := 0, 0, ""
	for _, f := range c.files {
		if f.faults.n > 0 {
			if n += f.faults.n; files == 0 {
				example = f.faults.first
			}
			files++
		}
	}
	switch {
	case files == 1:
		c.notes = append(c.notes, fmt.Sprintf("faults of tensors that are not needed, which are not read: %d: %s", n, example))
	case files > 1:
		c.notes = append(c.notes, fmt.Sprintf("faults of tensors that are not needed, which are not read: %d in %d files: %s", n, files, example))
	}
}

// Notes says where the files hold what the index does not count on: copies of tensors in
// other files than it names, and tensors that are not needed and not there; and what is
// wrong with tensors that are not needed. The slice belongs to the Folder.
func (c *Folder) Notes() []string { return c.notes }

// foundIn names the file that a tensor was found in.
func foundIn(file string) string { return "it in " + Printable(file) }

// Tensors returns the tensors of all opened files, needed or not, sorted by
// name. The slice belongs to the Folder.
func (c *Folder) Tensors() []*Tensor { return c.tensors }

// Tensor returns the tensor of that name in the opened files.
func (c *Folder) Tensor(name string) (*Tensor, bool) { return named(c.tensors, name) }

// Index yields the file of each tensor as the folder's index names it, including those of
// files that were not opened, in the order of the text. It yields nothing if there is no
// index.
func (c *Folder) Index() iter.Seq2[string, string] { return c.index.all() }

// Close closes all files; see [File.Close]. It is a no-op the second time.
func (c *Folder) Close() error {
	var errs []error
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
