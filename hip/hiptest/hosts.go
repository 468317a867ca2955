package hiptest

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// Hosts returns a host of every level of vector instructions that the machine has,
// by name, with that many threads.
func Hosts(threads int) map[string]hip.Device {
	hosts := make(map[string]hip.Device)
	for _, level := range hip.SIMDLevels() {
		d, err := hip.NewHostWith(hip.HostOptions{Threads: threads, SIMD: level})
		if err != nil {
			panic(err) // the machine has the level
		}
		hosts[fmt.Sprintf("host with %v", level)] = d
	}
	return hosts
}
