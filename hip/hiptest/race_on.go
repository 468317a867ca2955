//go:build race

package hiptest

// RaceDetector reports whether the race detector is on: it makes tests some ten
// times slower and finds its races in a part of the work, so that long tests do
// less of it.
const RaceDetector = true
