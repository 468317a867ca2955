//go:build !unix && !windows

package hip

// systemHas is not known here.
func systemHas(int64) bool { return true }
