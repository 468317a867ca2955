package hip_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// piecesArgs are d = c + a · (high + low)ᵀ, of 16 rows each.
type piecesArgs struct {
	A, High, Low hip.Ptr // [16][Columns] bfloat16
	C, D         hip.Ptr // [16][16] float32
	Columns      int32
	_            int32
}

const piecesHIP = `
struct piecesArgs {
  const uint16 *A, *High, *Low;
  const float *C;
  float *D;
  int32 Columns, pad;
};

DEVICE Piece pieceOf(const uint16 *m, int32 column, int32 columns) {
  Piece p;
  for (int32 r = 0; r < Piece::rows; r++) {
    const uint16 *row = m + pieceRow(r) * columns + column + 16 * pieceLane();
    for (int32 k = 0; k < 8; k++) p.pairs[r][k] = row[2 * k] | (uint32)row[2 * k + 1] << 16;
  }
  return p;
}

KERNEL(64) void test_pieces(piecesArgs a) { // waves of 32 do the same twice
  float d[Piece::values];
  for (int32 i = 0; i < Piece::values; i++) d[i] = a.C[pieceDRow(i) * 16 + pieceDColumn(i)];
  for (int32 c = 0; c < a.Columns; c += 16 * Piece::lanes) {
    multiplyPieces(d, pieceOf(a.A, c, a.Columns), pieceOf(a.High, c, a.Columns), pieceOf(a.Low, c, a.Columns));
  }
  for (int32 i = 0; i < Piece::values; i++) a.D[pieceDRow(i) * 16 + pieceDColumn(i)] = d[i];
}
`

var pieces = hip.NewKernel("test_pieces", piecesHIP, func(b *hip.Blocks, a *piecesArgs) {
	columns := int(a.Columns)
	left := hip.In[hip.BF16](b, a.A, 16*columns)
	high, low := hip.In[hip.BF16](b, a.High, 16*columns), hip.In[hip.BF16](b, a.Low, 16*columns)
	c, d := hip.In[float32](b, a.C, 256), hip.Out[float32](b, a.D, 256)
	for i := range d {
		sum := float64(c[i])
		for k := range columns {
			of := i%16*columns + k
			sum += float64(left[i/16*columns+k].Float32()) * (float64(high[of].Float32()) + float64(low[of].Float32()))
		}
		d[i] = float32(sum)
	}
})

// TestMatrixUnits multiplies numbers whose products and sums are exact in float32, so that
// every element of the result shows that all lanes hold what they should.
func TestMatrixUnits(t *testing.T) {
	const columns = 128
	rng := rand.New(rand.NewPCG(3, 1))
	random := func(n int, unit float32) []hip.BF16 {
		values := make([]hip.BF16, n)
		for i := range values {
			values[i] = hip.ToBF16(unit * float32(rng.IntN(17)-8))
		}
		return values
	}
	a, high, low := random(16*columns, 1), random(16*columns, 1), random(16*columns, 1.0/64)
	c := make([]float32, 256)
	for i := range c {
		c[i] = float32(rng.IntN(1000))
	}
	run := func(t *testing.T, d hip.Device) []float32 {
		args := piecesArgs{
			A: uploaded(t, d, a), High: uploaded(t, d, high), Low: uploaded(t, d, low),
			C: uploaded(t, d, c), D: uploaded(t, d, make([]float32, 256)), Columns: columns,
		}
		require.NoError(t, pieces.Launch(d, hip.Grid{Blocks: 1, Threads: 64}, &args))
		result := make([]float32, 256)
		require.NoError(t, hip.ReadOf(d, result, args.D))
		return result
	}
	reference := hip.NewReference()
	t.Cleanup(func() { require.NoError(t, reference.Close()) })
	want := run(t, reference)
	test := func(t *testing.T, d hip.Device) { require.Equal(t, want, run(t, d)) }
	hiptest.OnGPUs(t, test)
	hiptest.OnGPUs(t, test, "gfx906", "gfx1030", "gfx1100", "gfx1200", "gfx950")
}

var units = hip.NewKernel("test_units", `
struct unitsArgs { int32 *Y; };
KERNEL(64) void test_units(unitsArgs a) {
#if defined(HAS_MATRIX_UNITS)
  a.Y[0] = 1;
#endif
}
`, func(*hip.Blocks, *unitsArgs) {}).Block(64)

type unitsArgs struct{ Y hip.Ptr }

// TestInfoMatrixUnits: Info says of a GPU what the prelude has in its code.
func TestInfoMatrixUnits(t *testing.T) {
	test := func(t *testing.T, d hip.Device) {
		y := []int32{0}
		args := unitsArgs{Y: uploaded(t, d, y)}
		require.NoError(t, units.Launch(d, hip.Grid{Blocks: 1}, &args))
		require.NoError(t, hip.ReadOf(d, y, args.Y))
		require.Equal(t, y[0] == 1, d.Info().MatrixUnits)
	}
	hiptest.OnGPUs(t, test)
	hiptest.OnGPUs(t, test, "gfx906", "gfx908", "gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1151", "gfx1200", "gfx1201")
}

func uploaded[T any](t *testing.T, d hip.Device, values []T) hip.Ptr {
	t.Helper()
	p, err := hip.Upload(d, values)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Free(p)) })
	return p
}
