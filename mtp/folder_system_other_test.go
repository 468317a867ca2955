//go:build !unix

package mtp_test

import (
	"io/fs"
	"os"
	"time"
)

var processBegan = time.Now()

// processTime is the clock's, for want of the process's.
func processTime() time.Duration { return time.Since(processBegan) }

// makeSpecial makes a folder, for want of other kinds of files.
func makeSpecial(path string, _ fs.FileMode) error { return os.Mkdir(path, 0o700) }
