package hip

import _ "embed"

//go:embed prelude.h
var prelude string

// Prelude returns the header that the source of every kernel is compiled behind:
// one name for what compilers and vendors name differently.
func Prelude() string { return prelude }
