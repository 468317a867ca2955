//go:build !unix

package safetensors

import (
	"errors"
	"os"
)

// mapFile is for unix; elsewhere files are read.
func mapFile(*os.File, int64, int64) ([]byte, error) { return nil, errors.ErrUnsupported }

func unmapFile([]byte) error { return nil }

func willNeed([]byte) {}
