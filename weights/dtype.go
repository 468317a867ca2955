package weights

import "fmt"

// Dtype is the element type of a stored tensor: one of the 22 that the
// safetensors format names. The zero Dtype is none of them.
type Dtype uint8

// The dtypes of safetensors 0.8, by element width.
const (
	DtypeBool       Dtype = iota + 1 // one byte, 0 or 1
	DtypeF4                          // E2M1, two to a byte
	DtypeF6E2M3                      // packed 6-bit elements
	DtypeF6E3M2                      // packed 6-bit elements
	DtypeU8                          // also: E8M0 scales of an MXFP8 matrix
	DtypeI8                          //
	DtypeF8E5M2                      // IEEE-like, with infinities
	DtypeF8E4M3                      // "fn": no infinities, 0x7F and 0xFF are NaN
	DtypeF8E8M0                      // a power of two, 2^(code-127), 0xFF is NaN
	DtypeF8E4M3FNUZ                  // bias 8, 0x80 is the only NaN
	DtypeF8E5M2FNUZ                  // bias 16, 0x80 is the only NaN
	DtypeI16                         //
	DtypeU16                         //
	DtypeF16                         // IEEE binary16
	DtypeBF16                        // upper half of a binary32
	DtypeI32                         //
	DtypeU32                         //
	DtypeF32                         // IEEE binary32
	DtypeC64                         // two binary32: real, imaginary
	DtypeF64                         // IEEE binary64
	DtypeI64                         //
	DtypeU64                         //
)

var dtypes = [...]struct {
	name string
	bits int
}{
	DtypeBool:       {"BOOL", 8},
	DtypeF4:         {"F4", 4},
	DtypeF6E2M3:     {"F6_E2M3", 6},
	DtypeF6E3M2:     {"F6_E3M2", 6},
	DtypeU8:         {"U8", 8},
	DtypeI8:         {"I8", 8},
	DtypeF8E5M2:     {"F8_E5M2", 8},
	DtypeF8E4M3:     {"F8_E4M3", 8},
	DtypeF8E8M0:     {"F8_E8M0", 8},
	DtypeF8E4M3FNUZ: {"F8_E4M3FNUZ", 8},
	DtypeF8E5M2FNUZ: {"F8_E5M2FNUZ", 8},
	DtypeI16:        {"I16", 16},
	DtypeU16:        {"U16", 16},
	DtypeF16:        {"F16", 16},
	DtypeBF16:       {"BF16", 16},
	DtypeI32:        {"I32", 32},
	DtypeU32:        {"U32", 32},
	DtypeF32:        {"F32", 32},
	DtypeC64:        {"C64", 64},
	DtypeF64:        {"F64", 64},
	DtypeI64:        {"I64", 64},
	DtypeU64:        {"U64", 64},
}

// ParseDtype returns the Dtype with the given safetensors name, "F8_E4M3" for
// example. Names are case-sensitive. The error matches [ErrUnknownDtype].
func ParseDtype(name string) (Dtype, error) {
	for d := DtypeBool; int(d) < len(dtypes); d++ {
		if dtypes[d].name == name {
			return d, nil
		}
	}
	return 0, fmt.Errorf("%w: %s", ErrUnknownDtype, quote(name))
}

// Valid reports whether d is one of the named dtypes.
func (d Dtype) Valid() bool { return d >= DtypeBool && int(d) < len(dtypes) }

// String returns the safetensors name of d, or "Dtype(n)" if it has none.
func (d Dtype) String() string {
	if !d.Valid() {
		return fmt.Sprintf("Dtype(%d)", uint8(d))
	}
	return dtypes[d].name
}

// Bits returns the width of one element in bits; it is 4 or 6 for the packed
// formats and 0 if d is not valid.
func (d Dtype) Bits() int {
	if !d.Valid() {
		return 0
	}
	return dtypes[d].bits
}
