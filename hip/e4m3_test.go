package hip_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

func TestE4M3(t *testing.T) {
	for code, want := range map[hip.E4M3]float32{0x00: 0, 0x01: 0x1p-9, 0x07: 7 * 0x1p-9, 0x08: 0x1p-6, 0x38: 1, 0xb8: -1, 0x7e: 448, 0xfe: -448} {
		require.Equal(t, want, code.Float32(), "code %#x", code)
	}
	require.True(t, math.Signbit(float64(hip.E4M3(0x80).Float32())), "minus zero")
	for _, code := range []hip.E4M3{0x7f, 0xff} {
		v := code.Float32()
		require.True(t, v != v, "code %#x", code)
	}
}

func TestToE4M3(t *testing.T) {
	inf := float32(math.Inf(1))
	for code := range 256 {
		code := hip.E4M3(code)
		if v := code.Float32(); v == v {
			require.Equal(t, code, hip.ToE4M3(v), "code %#x comes back", code)
		}
	}
	// Between neighbors: the nearer, in the middle the one with the even code.
	for code := hip.E4M3(0); code < 0x7e; code++ {
		middle, even := (code.Float32()+(code+1).Float32())/2, (code+1)&^1
		require.Equal(t, even, hip.ToE4M3(middle), "middle above %#x", code)
		require.Equal(t, even|0x80, hip.ToE4M3(-middle))
		require.Equal(t, code, hip.ToE4M3(math.Nextafter32(middle, 0)))
		require.Equal(t, code+1, hip.ToE4M3(math.Nextafter32(middle, inf)))
	}
	for v, code := range map[float32]hip.E4M3{
		463: 0x7e, 1e30: 0x7e, inf: 0x7e, -449: 0xfe, -inf: 0xfe,
		0x1p-10: 0, 0x1.8p-10: 1, 0x1p-149: 0, -0x1p-149: 0x80, float32(math.Copysign(0, -1)): 0x80,
	} {
		require.Equal(t, code, hip.ToE4M3(v), "%v", v)
	}
	require.Equal(t, hip.E4M3(0x7f), hip.ToE4M3(float32(math.NaN())))
	require.Equal(t, hip.E4M3(0xff), hip.ToE4M3(float32(math.Copysign(math.NaN(), -1))))
}

type codesArgs struct {
	Y    hip.Ptr // E4M3 [1]
	Code int32
	Off  int32 // on the host
}

func writeCode(off func(a *codesArgs) int32) func(*hip.Blocks, *codesArgs) {
	return func(b *hip.Blocks, a *codesArgs) { hip.Out[hip.E4M3](b, a.Y, 1)[0] = hip.E4M3(a.Code + off(a)) }
}

var codes = hip.NewKernel("test_e4m3", "", writeCode(func(*codesArgs) int32 { return 0 })).
	Fast(0, writeCode(func(a *codesArgs) int32 { return a.Off }))

// TestCheckOfE4M3: a code may be one off. Zeros of both signs are the same, and NaN is NaN
// alone.
func TestCheckOfE4M3(t *testing.T) {
	d := hip.Check(hip.NewHost(1))
	defer d.Close()
	y, err := d.Alloc(1)
	require.NoError(t, err)
	launch := func(code, host int32) error {
		return codes.Launch(d, hip.Grid{Blocks: 1}, &codesArgs{Y: y, Code: code, Off: host - code})
	}
	for _, same := range [][2]int32{{0x38, 0x39}, {0x38, 0x37}, {0x00, 0x80}, {0x01, 0x80}, {0x7f, 0xff}, {0xb8, 0xb9}} {
		require.NoError(t, launch(same[0], same[1]), "%#x", same)
	}
	for _, differ := range [][2]int32{{0x38, 0x3a}, {0x01, 0x81}, {0x7e, 0x7f}, {0x7f, 0x7e}, {0x38, 0xb8}} {
		require.ErrorIs(t, launch(differ[0], differ[1]), hip.ErrMismatch, "%#x", differ)
	}
}
