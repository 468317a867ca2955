//go:build linux && (amd64 || arm64)

package emulator

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// scaledArgs are the registers of a wave's 64 lanes before and after a scaled MFMA.
type scaledArgs struct {
	A, B           hip.Ptr // [64][32] e4m3
	AScale, BScale hip.Ptr // [64] e8m0, 4 bytes apart
	C, D           hip.Ptr // [64][4] float32
}

var scaled = hip.NewKernel("test_scaled", `
struct scaledArgs {
  const Uint32x4 *A, *B;
  const uint32 *AScale, *BScale;
  const float *C;
  float *D;
};
KERNEL(64) void test_scaled(scaledArgs a) {
#if defined(HAS_MULTIPLY_ADD_SCALED)
  const int32 lane = (int32)threadIdx.x;
  float d[4];
  for (int32 i = 0; i < 4; i++) d[i] = a.C[4 * lane + i];
  multiplyAddScaled(d, a.A + 2 * lane, a.B + 2 * lane, a.AScale[lane], a.BScale[lane]);
  for (int32 i = 0; i < 4; i++) a.D[4 * lane + i] = d[i];
#endif
}
`, func(*hip.Blocks, *scaledArgs) {})

// rowsOf128 is an operand of a scaled MFMA: 16 rows of 128 MXFP8 values.
type rowsOf128 struct {
	codes  [16][128]byte
	scales [16][4]byte
}

// lanes are the registers that hold the rows: 16 lanes hold sixteen columns of the first 64
// and sixteen of the last, and the scales of 32 columns that lie together.
func (r *rowsOf128) lanes() (codes [64][32]byte, scales [64]uint32) {
	for i := range 16 {
		for g := range 4 {
			lane := 16*g + i
			copy(codes[lane][:16], r.codes[i][16*g:])
			copy(codes[lane][16:], r.codes[i][64+16*g:])
			scales[lane] = uint32(r.scales[i][g]) | 0xa5a5a500 // of which one byte is read
		}
	}
	return codes, scales
}

// times is the definition in float64, of columns in order, rounded once.
func (r *rowsOf128) times(b *rowsOf128, i, j int, c float32) float32 {
	sum := float64(c)
	for block := range 4 {
		products := 0.0
		for k := 32 * block; k < 32*block+32; k++ {
			products += float64(hip.E4M3(r.codes[i][k]).Float32()) * float64(hip.E4M3(b.codes[j][k]).Float32())
		}
		scale := scaleOf(r.scales[i][block]) * scaleOf(b.scales[j][block])
		sum += products * scale
	}
	return float32(sum)
}

func scaleOf(code byte) float64 {
	if code == 255 {
		return math.NaN()
	}
	return math.Ldexp(1, int(code)-127)
}

// TestEmulatorScales multiplies with every scale of one side and every sixteenth of the other,
// and those at the ends of the range: sums that are subnormal, zero, infinite and NaN are
// among them. Every element of every lane is compared with the definition.
func TestEmulatorScales(t *testing.T) {
	d := Open(t, Settings{Arch: "gfx950"})
	rng := rand.New(rand.NewPCG(9, 50))
	random := func() (r rowsOf128) {
		for i := range r.codes {
			for k := range r.codes[i] {
				if r.codes[i][k] = byte(rng.IntN(256)); r.codes[i][k]&0x7f == 0x7f {
					r.codes[i][k]-- // NaN has a case of its own
				}
			}
		}
		return r
	}
	ends := []byte{0, 1, 2, 126, 127, 128, 253, 254, 255}
	for s := 0; s < 256; s += 16 {
		ends = append(ends, byte(s))
	}
	var subnormal, infinite, nan, finite int
	for first := 0; first < 256; first += 16 {
		for _, other := range ends {
			a, b := random(), random()
			for i := range 16 {
				for block := range 4 { // no two of a row or of a block are the same
					a.scales[i][block] = byte(first + (i+5*block)%16)
					b.scales[i][block] = other
				}
			}
			if first == 112 && other == 127 { // mixed: every lane's scale is its own
				for i := range 16 {
					for block := range 4 {
						b.scales[i][block] = byte(120 + (3*i+7*block)%13)
					}
				}
				a.codes[3][77], b.codes[9][12] = 0x7f, 0xff
			}
			var c [64][4]float32
			for lane := range c {
				for v := range c[lane] {
					if first >= 96 && first < 160 {
						c[lane][v] = float32(rng.NormFloat64())
					}
				}
			}
			got := runScaled(t, d, &a, &b, &c)
			for lane := range 64 {
				for v := range 4 {
					i, j := lane/16*4+v, lane%16
					want := a.times(&b, i, j, c[lane][v])
					require.True(t, want == got[lane][v] || want != want && got[lane][v] != got[lane][v],
						"scales from %d and %d, row %d, column %d: %v, want %v", first, other, i, j, got[lane][v], want)
					switch magnitude := math.Abs(float64(want)); {
					case want != want:
						nan++
					case math.IsInf(magnitude, 0):
						infinite++
					case magnitude < 0x1p-126:
						subnormal++
					default:
						finite++
					}
				}
			}
		}
	}
	for name, n := range map[string]int{"subnormal": subnormal, "infinite": infinite, "NaN": nan, "finite": finite} {
		require.Greater(t, n, 1000, fmt.Sprintf("%s results", name))
	}
}

func runScaled(t *testing.T, d hip.Device, a, b *rowsOf128, c *[64][4]float32) (got [64][4]float32) {
	t.Helper()
	var args scaledArgs
	aCodes, aScales := a.lanes()
	bCodes, bScales := b.lanes()
	args.A, args.B = upload(t, d, aCodes[:]), upload(t, d, bCodes[:])
	args.AScale, args.BScale = upload(t, d, aScales[:]), upload(t, d, bScales[:])
	args.C, args.D = upload(t, d, c[:]), upload(t, d, got[:])
	require.NoError(t, scaled.Launch(d, hip.Grid{Blocks: 1, Threads: 64}, &args))
	require.NoError(t, hip.ReadOf(d, got[:], args.D))
	for _, p := range []hip.Ptr{args.A, args.B, args.AScale, args.BScale, args.C, args.D} {
		require.NoError(t, d.Free(p))
	}
	return got
}

func upload[T any](t *testing.T, d hip.Device, values []T) hip.Ptr {
	t.Helper()
	p, err := hip.Upload(d, values)
	require.NoError(t, err)
	return p
}
