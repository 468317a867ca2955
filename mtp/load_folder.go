package mtp

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// checkFolder refuses what is no folder, which the errors of the files in it would
// not say.
func checkFolder(dir string) error {
	refuse := func(want string) error {
		return &InputError{Sequence: -1, Field: "dir", Got: strconv.Quote(dir), Want: want}
	}
	if dir == "" {
		return refuse("a checkpoint folder")
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("mtp: %w", err)
	case !info.IsDir():
		return refuse("the folder that holds this file and config.json")
	}
	return nil
}

// inFolder adds the folder to an error that says where in it.
func inFolder(dir string, err error) error {
	if err == nil {
		return nil
	}
	return &folderError{dir, err}
}

// folderError says in which folder something is wrong.
type folderError struct {
	dir string
	err error
}

func (e *folderError) Error() string {
	return "mtp: " + e.dir + ": " + strings.TrimPrefix(e.err.Error(), "mtp: ")
}

func (e *folderError) Unwrap() error { return e.err }
