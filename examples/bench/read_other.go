//go:build !amd64 && !arm64

package main

import "github.com/drafthead/drafthead/hip"

// xorFast is xorWords: this machine has no vector loops.
func xorFast(data []byte, _ int, _ hip.SIMD) uint64 { return xorWords(data) }
