//go:build !linux && !darwin

package hip

// hasBF16 is for Linux and macOS; other systems are not asked.
func hasBF16() bool { return false }
