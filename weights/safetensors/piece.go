package safetensors

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
)

const (
	// smallSize is what is read in place of mapped: a mapping, of which a process has some
	// ten thousands, costs more.
	smallSize = 16 << 10
	// mergeGap is how far apart two needed stretches of a file are mapped as one.
	mergeGap = 64 << 10
	// maxPieces bounds the mappings of a file, and maxMappings those of a folder.
	maxPieces   = 64
	maxMappings = 32 << 10
)

// piece is a stretch of a file that is in memory.
type piece struct {
	offset int64 // in the file
	data   []byte
	mapped bool // it starts at a page
}

func (p *piece) end() int64 { return p.offset + int64(len(p.data)) }

func (p *piece) release() error {
	if !p.mapped {
		return nil
	}
	return unmapFile(p.data)
}

// in returns the n bytes from offset off, if they are in memory in one piece; nil otherwise.
func (b *backing) in(off, n int64) []byte {
	p := b.holding(off, n)
	if p == nil {
		return nil
	}
	return p.data[off-p.offset:][:n:n]
}

// holding returns the piece with the n bytes from offset off.
func (b *backing) holding(off, n int64) *piece {
	i, found := slices.BinarySearchFunc(b.pieces, off, func(p piece, off int64) int { return cmp.Compare(p.offset, off) })
	if !found {
		i--
	}
	if i < 0 || off+n > b.pieces[i].end() {
		return nil
	}
	return &b.pieces[i]
}

// hold brings the needed tensors of a file of the operating system into memory: it maps the
// pages that they lie on, and no others but between near ones. Few bytes it reads. The file
// stays open if there are others, or where the system refuses a mapping.
func (f *File) hold(needed func(tensor string) bool, most int) (backing, error) {
	b := &f.backing
	file, ok := b.r.(*os.File)
	if !ok {
		return *b, nil
	}
	stretches := f.stretches(needed, most)
	total := int64(0)
	for _, s := range stretches {
		total += s[1] - s[0]
	}
	whole := needed == nil || !slices.ContainsFunc(f.tensors, func(t *Tensor) bool { return t.size > 0 && !needed(t.Name) })
	for _, s := range stretches {
		p := piece{offset: s[0]}
		var err error
		if total <= smallSize {
			p.data = make([]byte, s[1]-s[0])
			err = f.read(p.data, s[0])
		} else {
			p.data, err = mapFile(file, s[0], s[1]-s[0])
			p.mapped = err == nil
		}
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			whole = false
		case err != nil:
			return *b, &fileError{file: f.name, err: err}
		default:
			b.pieces = append(b.pieces, p)
		}
	}
	if whole {
		err := b.close()
		b.r, b.close = nil, nil
		if err != nil {
			return *b, &fileError{file: f.name, err: err}
		}
	}
	return *b, nil
}

// read fills p from offset off of a file of which nothing is in memory.
func (f *File) read(p []byte, off int64) error {
	n, err := f.backing.r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	return wholly(err)
}

// stretches returns where the pages of needed tensors begin and end, in the order of the
// file: up to most stretches, those with the widest gaps between them.
func (f *File) stretches(needed func(tensor string) bool, most int) (list [][2]int64) {
	if needed == nil {
		return [][2]int64{{0, f.size}}
	}
	page := int64(os.Getpagesize())
	for _, t := range f.tensors {
		if t.size == 0 || !needed(t.Name) {
			continue
		}
		begin, end := t.offset/page*page, min((t.offset+t.size+page-1)/page*page, f.size)
		if n := len(list); n > 0 && begin-list[n-1][1] <= mergeGap {
			list[n-1][1] = end
			continue
		}
		list = append(list, [2]int64{begin, end})
	}
	if len(list) <= most {
		return list
	}
	gaps := make([]int64, len(list)-1)
	for i := range gaps {
		gaps[i] = list[i+1][0] - list[i][1]
	}
	slices.SortFunc(gaps, func(a, b int64) int { return cmp.Compare(b, a) })
	kept := list[:1]
	for _, s := range list[1:] {
		last := &kept[len(kept)-1]
		if most > 1 && len(kept) < most && s[0]-last[1] >= gaps[most-2] {
			kept = append(kept, s)
		} else {
			last[1] = s[1]
		}
	}
	return kept
}

// errGone is a read of a mapped file that was truncated meanwhile.
var errGone = errors.New("the file was cut short while it was open")

// copyFaulty copies from memory that may be a mapping of a file, whose bytes are gone if it
// was truncated.
func copyFaulty(to, from []byte) error { return caught(func() { copy(to, from) }) }

// caught calls f and returns an error where it reads a byte of a mapped file that is gone.
func caught(f func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch e := recover().(type) {
		case nil:
		case interface {
			runtime.Error
			Addr() uintptr
		}:
			err = fmt.Errorf("%w: %w", errGone, io.ErrUnexpectedEOF)
		default:
			panic(e)
		}
	}()
	f()
	return nil
}
