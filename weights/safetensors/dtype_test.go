package safetensors

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDtypes(t *testing.T) {
	all := map[Dtype]int{
		"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
		"F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
		"I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
	}
	require.Len(t, dtypes, len(all), "every dtype of the table is tested")
	for d, bits := range all {
		require.Equal(t, bits, d.Bits(), d)
		got, ok := dtypeNamed(string(d))
		require.True(t, ok)
		require.Equal(t, d, got)
	}
}

func TestNoDtype(t *testing.T) {
	for _, name := range []string{"", "f32", "F8", "F8_E4M3FN", "BF16 ", "Q9", "float32"} {
		_, ok := dtypeNamed(name)
		require.False(t, ok, name)
		require.Zero(t, Dtype(name).Bits(), name)
	}
}
