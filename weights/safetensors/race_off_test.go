//go:build !race

package safetensors

const raceMemory = 1
