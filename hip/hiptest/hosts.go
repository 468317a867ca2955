package hiptest

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// Hosts returns a host of every level of vector instructions that the machine has,
// by name, with that many threads. The race detector gets plain Go, the one that it sees
// into, and the highest level.
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
