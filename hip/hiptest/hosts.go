package hiptest

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/registry"
)

// Hosts returns a [hip.NewHost] with that many threads, 0 for one per usable core, for
// every level of vector instructions that the machine has, by name. Under the race detector
// it returns two: plain Go, which the detector sees into, and the highest level.
func Hosts(threads int) map[string]hip.Device {
	hosts := make(map[string]hip.Device)
	levels := hip.SIMDLevels()
	if n := len(levels); RaceDetector && n > 2 {
		levels = []hip.SIMD{levels[0], levels[n-1]}
	}
	for _, level := range levels {
		hosts[fmt.Sprintf("host with %v", level)] = registry.Host(threads, int(level)).(hip.Device)
	}
	return hosts
}
