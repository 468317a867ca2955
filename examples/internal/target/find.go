package target

import (
	"errors"
	"io/fs"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/weights/safetensors"
)

var errNone = errors.New("this checkpoint has no target, no model.layers.* and no model.norm.weight; " +
	"want the target's tensors beside those of its head, as in the built-in checkpoint, or a program that needs the head alone: draft, on recorded texts")

// Open returns the files of a checkpoint folder, and what errors call it. "" is the
// built-in checkpoint.
func Open(dir string) (files fs.FS, name string, err error) {
	if dir == "" {
		return m3tiny.Checkpoint(), "m3-tiny (built in)", nil
	}
	files, err = cli.Folder(dir)
	return files, dir, err
}

// Find returns an error if a checkpoint holds nothing of a target, so that one need not load
// a head to learn that. What else may be wrong with a folder is left to Load and mtp.Load.
func Find(fsys fs.FS) error {
	checkpoint, err := safetensors.OpenFolder(fsys, owns)
	if err != nil {
		return nil
	}
	for _, t := range checkpoint.Tensors() {
		if owns(t.Name) {
			return checkpoint.Close()
		}
	}
	return errors.Join(errNone, checkpoint.Close())
}
