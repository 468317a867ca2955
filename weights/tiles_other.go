//go:build !amd64

package weights

// No level has tiles or products of bytes, and none reaches these.

func splitBF16(*splitBF16Args)         { panic("no assembly") }
func packTiles(*packTilesArgs)         { panic("no assembly") }
func transposeTile(*transposeTileArgs) { panic("no assembly") }
func packDigits(*packDigitsArgs)       { panic("no assembly") }
