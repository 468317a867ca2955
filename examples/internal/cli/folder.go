package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// Folder returns the files of a folder that a flag names.
func Folder(dir string) (fs.FS, error) {
	name := safetensors.Printable(dir)
	info, err := os.Stat(dir)
	if path := (*fs.PathError)(nil); errors.As(err, &path) { // it has the name as it is
		return nil, fmt.Errorf("%s: %w; want a folder with config.json and *.safetensors", name, path.Err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is a file, want a folder", name)
	}
	return os.DirFS(dir), nil
}
