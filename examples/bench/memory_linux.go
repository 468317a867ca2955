package main

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// memoryUse is the memory of this process, in bytes; 0 where it is not known.
type memoryUse struct {
	peak      int64 // the most that was resident, mapped files included
	anonymous int64 // resident now and not of a file
}

func readMemoryUse() (m memoryUse, err error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return m, err
	}
	return memoryUse{kilobytes(string(text), "VmHWM:"), kilobytes(string(text), "RssAnon:")}, nil
}

// availableMemory returns the bytes that this process can take without swapping:
// those of the machine or, if that is less, those that its control group has left.
func availableMemory() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	available := kilobytes(string(text), "MemAvailable:")
	if available == 0 {
		return 0, errors.ErrUnsupported
	}
	limit, err := readCount("/sys/fs/cgroup/memory.max")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, strconv.ErrSyntax) { // no such group, or "max"
		return available, nil
	}
	used, errUsed := readCount("/sys/fs/cgroup/memory.current")
	if err = errors.Join(err, errUsed); err != nil {
		return 0, err
	}
	return max(min(available, limit-used), 0), nil
}

func readCount(name string) (int64, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// kilobytes returns the bytes of a line "key   n kB"; 0 if there is none.
func kilobytes(text, key string) int64 {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == key {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return n << 10
		}
	}
	return 0
}
