//go:build !linux

package main

import "errors"

// memoryUse is the memory of this process, in bytes; 0 where it is not known.
type memoryUse struct{ peak, anonymous int64 }

func readMemoryUse() (memoryUse, error) { return memoryUse{}, nil }

// availableMemory cannot tell on this operating system.
func availableMemory() (int64, error) { return 0, errors.ErrUnsupported }
