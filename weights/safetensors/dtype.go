package safetensors

// Dtype is the element type of a stored tensor, by the name that the format has
// for it.
type Dtype string

// The element types of most weights. The format has 22 in all; another is named as in
// the file: Dtype("F8_E8M0").
const (
	F32    Dtype = "F32"
	F16    Dtype = "F16"     // IEEE binary16
	BF16   Dtype = "BF16"    // the upper half of an F32
	F8E4M3 Dtype = "F8_E4M3" // no infinities; 0x7F and 0xFF are NaN
	U8     Dtype = "U8"
)

// dtypes are the element types of safetensors 0.8. F4 and F6 are packed.
var dtypes = [...]struct {
	name Dtype
	bits int
}{
	{BF16, 16}, {F8E4M3, 8}, {U8, 8}, {F32, 32}, {F16, 16}, {"F8_E8M0", 8}, {"I8", 8}, {"I32", 32}, {"I64", 64},
	{"BOOL", 8}, {"F4", 4}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F8_E5M2", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
	{"I16", 16}, {"U16", 16}, {"U32", 32}, {"C64", 64}, {"F64", 64}, {"U64", 64},
}

// Bits returns the width of one element: 4 or 6 for packed types, and 0 for what is
// not a type of the format.
func (d Dtype) Bits() int {
	for i := range dtypes {
		if dtypes[i].name == d {
			return dtypes[i].bits
		}
	}
	return 0
}

// dtypeNamed returns the type of that name in a header. It keeps no part of the text.
func dtypeNamed(name string) (Dtype, bool) {
	for i := range dtypes {
		if string(dtypes[i].name) == name {
			return dtypes[i].name, true
		}
	}
	return "", false
}
