//go:build !(linux && (amd64 || arm64))

package hiptest

import (
	"testing"

	"github.com/drafthead/drafthead/hip"
)

// Emulator is an emulated driver, on Linux.
type Emulator struct{}

// NewEmulator skips the test: the emulator runs on Linux.
func NewEmulator(t testing.TB, _ Emulation) *Emulator {
	t.Helper()
	t.Skip("the emulator runs on Linux")
	return nil
}

func (m *Emulator) Options() hip.OpenOptions { return hip.OpenOptions{} }
func (m *Emulator) Counts() Counts           { return Counts{} }
func (m *Emulator) FailAt(int) (calls int)   { return 0 }
func (m *Emulator) Select(int)               {}
func (m *Emulator) Selected() int            { return 0 }
