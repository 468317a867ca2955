//go:build !linux

package main

import (
	"errors"
	"os"
)

// openDirect is for Linux.
func openDirect(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func alignedBuffer(n int) []byte { return make([]byte, n) }
