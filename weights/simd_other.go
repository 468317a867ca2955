//go:build !amd64 && !arm64

package weights

import "github.com/drafthead/drafthead/hip"

// vectorsOf returns no assembly: there is some for amd64 and arm64.
func vectorsOf(hip.SIMD) *vectorLevel { return nil }
