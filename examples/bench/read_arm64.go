package main

import "github.com/drafthead/drafthead/hip"

func xorVector(_ hip.SIMD, out *[8]uint64, data *byte, n, ahead int) { xorNEON(out, data, n, ahead) }
