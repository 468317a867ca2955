//go:build race

package hiptest

// RaceDetector reports whether the race detector is on. Long tests then do less work: it
// makes tests about ten times slower, and part of the work is enough to find races.
const RaceDetector = true
