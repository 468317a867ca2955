//go:build !(linux && (amd64 || arm64))

package emulator

import (
	"testing"

	"github.com/drafthead/drafthead/hip"
)

// Emulator is an emulated driver, on Linux.
type Emulator struct{}

// New skips the test: the emulator runs on Linux.
func New(t testing.TB, _ Settings) *Emulator {
	t.Helper()
	t.Skip("the emulator runs on Linux")
	return nil
}

func (m *Emulator) Options() hip.OpenOptions { return hip.OpenOptions{} }
func (m *Emulator) Counts() Counts           { return Counts{} }
func (m *Emulator) FailAt(int) (calls int)   { return 0 }
func (m *Emulator) Select(int)               {}
func (m *Emulator) Selected() int            { return 0 }
