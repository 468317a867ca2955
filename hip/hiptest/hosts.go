package hiptest

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// Hosts returns a [hip.NewHost] with that many threads for every level of vector
// instructions that the machine has, by name. Under the race detector it returns two: plain
// Go, which the detector sees into, and the highest level.
func Hosts(threads int) map[string]hip.Device {
	hosts := make(map[string]hip.Device)
	levels := hip.SIMDLevels()
	if n := len(levels); RaceDetector && n > 2 {
		levels = []hip.SIMD{levels[0], levels[n-1]}
	}
	for _, level := range levels {
		hosts[fmt.Sprintf("host with %v", level)] = hip.NewHost(hip.HostOptions{Threads: threads, SIMD: level})
	}
	return hosts
}
