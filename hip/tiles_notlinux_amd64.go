//go:build !linux

package hip

// requestTiles is for Linux; what other systems do with tile registers has not
// been tried.
func requestTiles() bool { return false }
