package cli

import "fmt"

// FormatBytes writes a size with the decimal unit that fits it: "7.73 GB".
func FormatBytes(n int64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if float64(n) >= 0.999995*u.size { // what would round up to "1000.00" of the unit below
			return fmt.Sprintf("%.2f %s", float64(n)/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
