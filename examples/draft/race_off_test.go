//go:build !race

package main

// How much the slow tests do: see race_on_test.go.
const positionStride = 4

func chainLengths() []string { return []string{"1", "2", "3", "4", "5"} }
