package hip

import "golang.org/x/sys/windows"

// systemHas reports whether the system would give the process n bytes. They are given
// back at once: who asks at the same time may be told the same.
func systemHas(n int64) bool {
	p, err := windows.VirtualAlloc(0, uintptr(n), windows.MEM_RESERVE|windows.MEM_COMMIT, windows.PAGE_READWRITE)
	return err == nil && windows.VirtualFree(p, 0, windows.MEM_RELEASE) == nil
}
