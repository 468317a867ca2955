//go:build race

package safetensors

// raceMemory is how many times more the race detector makes a program allocate, about.
const raceMemory = 2
