// Package prelude is the header that every kernel's HIP source is compiled with.
package prelude

import _ "embed"

var (
	//go:embed prelude.h
	preludeH string
	//go:embed wave.h
	waveH string
	//go:embed matrix.h
	matrixH string
	//go:embed warpgroup.h
	warpgroupH string
	//go:embed attention.h
	attentionH string
)

// Text returns the header: one name for what compilers and vendors name differently, what
// the threads of a wave and of a block do together, and the matrix units. It is one text,
// as run-time compilers get their headers, whose parts go by their own names and lines in
// messages.
func Text() string {
	return preludeH + "#line 1 \"wave.h\"\n" + waveH + "#line 1 \"matrix.h\"\n" + matrixH +
		"#line 1 \"warpgroup.h\"\n" + warpgroupH + "#line 1 \"attention.h\"\n" + attentionH
}
