package hiptest

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/registry"
)

// Hosts returns a [hip.NewHost] with that many threads, 0 for one per usable core, for
// every level of vector instructions that the machine has, by name. Under the race detector
// it returns two: plain Go, which the detector sees into, and the highest level. With
// activations it returns a host for each of them and each level that can round so, from
// [hip.SIMDAVX512BF16] to [hip.SIMDAMX], or [hip.SIMDNEONBF16] to one bfloat16; a machine
// may have none.
func Hosts(threads int, activations ...hip.Activations) map[string]hip.Device {
	hosts := make(map[string]hip.Device)
	levels := hip.SIMDLevels()
	for _, a := range activations {
		for _, level := range levels {
			if level == hip.SIMDAVX512BF16 || level == hip.SIMDAMX || level == hip.SIMDNEONBF16 && a == hip.ActivationsBF16 {
				hosts[fmt.Sprintf("host with %v, %v", level, a)] = registry.Host(threads, int(level), int(a)).(hip.Device)
			}
		}
	}
	if len(activations) > 0 {
		return hosts
	}
	if n := len(levels); RaceDetector && n > 2 {
		levels = []hip.SIMD{levels[0], levels[n-1]}
	}
	for _, level := range levels {
		hosts[fmt.Sprintf("host with %v", level)] = registry.Host(threads, int(level), 0).(hip.Device)
	}
	return hosts
}
