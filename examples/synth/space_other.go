//go:build !linux && !darwin && !windows

package main

import "errors"

// freeSpace cannot tell on this operating system.
func freeSpace(string) (int64, error) { return 0, errors.ErrUnsupported }
