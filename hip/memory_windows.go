package hip

import "golang.org/x/sys/windows"

// systemHas reports whether the system would give the process n bytes. It gives them back
// at once, so two callers at the same time may both be told yes.
func systemHas(n int64) bool {
	p, err := windows.VirtualAlloc(0, uintptr(n), windows.MEM_RESERVE|windows.MEM_COMMIT, windows.PAGE_READWRITE)
	return err == nil && windows.VirtualFree(p, 0, windows.MEM_RELEASE) == nil
}
