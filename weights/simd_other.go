//go:build !amd64

package weights

import "github.com/drafthead/drafthead/hip"

// vectorsOf returns no assembly: there is some for amd64.
func vectorsOf(hip.SIMD) *vectorLevel { return nil }

func splitBF16(*splitBF16Args) { panic("no assembly") }
func packTiles(*packTilesArgs) { panic("no assembly") }
