//go:build !linux

package synthetic

// mapMemory returns n zeroed bytes.
func mapMemory(n int64) ([]byte, error) { return make([]byte, n), nil }

func unmapMemory([]byte) error { return nil }
