package weights

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDtypes(t *testing.T) {
	all := []struct {
		dtype Dtype
		name  string
		bits  int
	}{
		{DtypeBool, "BOOL", 8}, {DtypeF4, "F4", 4}, {DtypeF6E2M3, "F6_E2M3", 6}, {DtypeF6E3M2, "F6_E3M2", 6},
		{DtypeU8, "U8", 8}, {DtypeI8, "I8", 8}, {DtypeF8E5M2, "F8_E5M2", 8}, {DtypeF8E4M3, "F8_E4M3", 8},
		{DtypeF8E8M0, "F8_E8M0", 8}, {DtypeF8E4M3FNUZ, "F8_E4M3FNUZ", 8}, {DtypeF8E5M2FNUZ, "F8_E5M2FNUZ", 8},
		{DtypeI16, "I16", 16}, {DtypeU16, "U16", 16}, {DtypeF16, "F16", 16}, {DtypeBF16, "BF16", 16},
		{DtypeI32, "I32", 32}, {DtypeU32, "U32", 32}, {DtypeF32, "F32", 32}, {DtypeC64, "C64", 64},
		{DtypeF64, "F64", 64}, {DtypeI64, "I64", 64}, {DtypeU64, "U64", 64},
	}
	require.Len(t, dtypes, len(all)+1, "every dtype of the table is tested")
	for _, want := range all {
		t.Run(want.name, func(t *testing.T) {
			require.Equal(t, want.name, want.dtype.String())
			require.Equal(t, want.bits, want.dtype.Bits())
			require.True(t, want.dtype.Valid())
			got, err := ParseDtype(want.name)
			require.NoError(t, err)
			require.Equal(t, want.dtype, got)
		})
	}
}

func TestNoDtype(t *testing.T) {
	for _, name := range []string{"", "f32", "F8", "F8_E4M3FN", "BF16 ", "Q9", "float32"} {
		_, err := ParseDtype(name)
		require.ErrorIs(t, err, ErrUnknownDtype, name)
	}
	for _, d := range []Dtype{0, DtypeU64 + 1, 255} {
		require.False(t, d.Valid())
		require.Zero(t, d.Bits())
		require.Contains(t, d.String(), "Dtype(")
	}
}
