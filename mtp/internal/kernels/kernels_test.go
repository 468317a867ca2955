package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/hip/vec"
	"github.com/drafthead/drafthead/weights"
)

// TestEmbedNorm: e is the row of the token, of a draft, or one of those given, and zero at
// position 0 whatever the token; each half is normalized with its own weights.
func TestEmbedNorm(t *testing.T) {
	for _, hidden := range []int{33, 64, 8200} {
		for _, format := range []weights.Format{weights.F32, weights.BF16} {
			t.Run(fmt.Sprintf("%d %v", hidden, format), func(t *testing.T) { testEmbedNorm(t, hidden, format) })
		}
	}
}

func testEmbedNorm(t *testing.T, hidden int, format weights.Format) {
	const vocab, eps = 7, 1e-6
	random := rand.New(rand.NewPCG(1, 5))
	floats := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(random.NormFloat64())
		}
		return out
	}
	positions, drafted := []int32{0, 1, 9, 0, 127}, []int32{5, 3, 1}
	rows := len(positions)
	table, states, given, enorm, hnorm := floats(vocab*hidden), floats(rows*hidden), floats(4*hidden), floats(hidden), floats(hidden)
	if format == weights.BF16 {
		for i, v := range table {
			table[i] = hip.ToBF16(v).Float32()
		}
	}
	table[6*hidden] = nan // masked where its token is at position 0

	for name, tokens := range map[string][]int32{
		"table": {6, 0, 3, 6, 2}, "drafts": {-1, -2, 4, -3, -1}, "given": {-4, -5, -6, -7, -4}, "each": {6, 4, -6, -7, -3},
	} {
		t.Run(name, func(t *testing.T) {
			var wantMasked, want []float32
			for row := range rows {
				e := make([]float32, hidden)
				switch token := int(tokens[row]); {
				case positions[row] == 0:
				case token >= 0:
					copy(e, table[token*hidden:])
				case token >= -len(drafted):
					copy(e, table[int(drafted[-1-token])*hidden:])
				default:
					copy(e, given[(-1-token-len(drafted))*hidden:])
				}
				wantMasked = append(wantMasked, e...)
				for _, half := range [][2][]float32{{e, enorm}, {states[row*hidden : (row+1)*hidden], hnorm}} {
					normed := make([]float32, hidden)
					vec.RMS64(normed, half[0], half[1], eps)
					want = append(want, normed...)
				}
			}
			onDevices(t, func(t *testing.T, d hip.Device) {
				masked, got := runEmbedNorm(t, d, format, table, states, given, enorm, hnorm, tokens, drafted, positions)
				require.Equal(t, wantMasked, masked)
				require.NoError(t, hiptest.Within(got, want, 1e-6))
				require.Equal(t, make([]float32, hidden), got[:hidden], "the masked half stays zero")
			})
		})
	}
}

// checkedDevices is the reference, and a host of every level, checked launch by launch.
func checkedDevices() []hip.Device {
	devices := []hip.Device{hip.NewReference()}
	for _, d := range hiptest.Hosts(2) {
		devices = append(devices, hip.Check(d))
	}
	return devices
}

// onDevices runs test on the reference, and on hosts and emulated GPUs checked launch
// by launch.
func onDevices(t *testing.T, test func(t *testing.T, d hip.Device)) {
	for _, d := range checkedDevices() {
		test(t, d)
		require.NoError(t, d.Close())
	}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { test(t, hip.Check(d)) })
}

// TestGatherAndWiden: rows of a table of any format, and bfloat16 made float32.
func TestGatherAndWiden(t *testing.T) {
	const hidden, vocab = 70, 5
	random := rand.New(rand.NewPCG(1, 7))
	tokens, narrow := []int32{4, 0, 4, 2}, make([]hip.BF16, 1025)
	for i := range narrow {
		narrow[i] = hip.ToBF16(float32(random.NormFloat64()))
	}
	onDevices(t, func(t *testing.T, d hip.Device) {
		stored := make([]byte, vocab*hidden)
		for i := range stored {
			stored[i] = byte(i * 7)
		}
		data, err := hip.Upload(d, stored)
		require.NoError(t, err)
		scale, err := hip.Upload(d, []byte{127, 126, 120, 0, 254, 127, 1, 2, 3, 4, 127, 128, 129, 130, 131})
		require.NoError(t, err)
		m, err := weights.NewMatrix(d, hidden, []weights.Segment{weights.DenseSegment(weights.MXFP8, vocab, hidden, data, scale)})
		require.NoError(t, err)
		ids, err := hip.Upload(d, tokens)
		require.NoError(t, err)
		out, err := d.Alloc(4 * int64(len(tokens)*hidden))
		require.NoError(t, err)
		require.NoError(t, EmbedGather(d, m, &EmbedGatherArgs{
			Out: out, Tokens: ids, Rows: int32(len(tokens)), Hidden: hidden, Vocab: vocab,
		}))
		got := make([]float32, len(tokens)*hidden)
		require.NoError(t, hip.ReadOf(d, got, out))
		require.NoError(t, hiptest.Within(got[:hidden], got[2*hidden:3*hidden], 0), "one token, one row")

		x, err := hip.Upload(d, narrow)
		require.NoError(t, err)
		y, err := d.Alloc(4 * int64(len(narrow)))
		require.NoError(t, err)
		require.NoError(t, WidenBF16(d, y, x, len(narrow)))
		wide := make([]float32, len(narrow))
		require.NoError(t, hip.ReadOf(d, wide, y))
		for i, v := range narrow {
			require.Equal(t, v.Float32(), wide[i])
		}
	})
}

// runEmbedNorm launches embed_norm over a table that is stored as format.
func runEmbedNorm(t *testing.T, d hip.Device, format weights.Format, table, states, given, enorm, hnorm []float32, tokens, drafted, positions []int32) (masked, out []float32) {
	t.Helper()
	floats := func(values []float32) hip.Ptr {
		p, err := hip.Upload(d, values)
		require.NoError(t, err)
		return p
	}
	hidden, rows := len(enorm), len(tokens)
	stored := floats(table)
	if format == weights.BF16 {
		narrow := make([]hip.BF16, len(table))
		for i, v := range table {
			narrow[i] = hip.ToBF16(v)
		}
		var err error
		stored, err = hip.Upload(d, narrow)
		require.NoError(t, err)
	}
	m, err := weights.NewMatrix(d, hidden, []weights.Segment{weights.DenseSegment(format, len(table)/hidden, hidden, stored, 0)})
	require.NoError(t, err)
	ids, err := hip.Upload(d, tokens)
	require.NoError(t, err)
	at, err := hip.Upload(d, positions)
	require.NoError(t, err)
	drafts, err := hip.Upload(d, drafted)
	require.NoError(t, err)
	a := &EmbedNormArgs{
		Out: floats(make([]float32, 2*rows*hidden)), Masked: floats(make([]float32, rows*hidden)), States: floats(states),
		Embeds: floats(given), Tokens: ids, Drafted: drafts, Positions: at, EmbedNorm: floats(enorm), HiddenNorm: floats(hnorm), Eps: 1e-6,
		Drafts: int64(len(drafted)), EmbedRows: int64(len(given) / hidden), Rows: int32(rows), Hidden: int32(hidden), Vocab: int32(m.Rows),
	}
	require.NoError(t, EmbedNorm(d, m, a))
	masked, out = make([]float32, rows*hidden), make([]float32, 2*rows*hidden)
	require.NoError(t, hip.ReadOf(d, masked, a.Masked))
	require.NoError(t, hip.ReadOf(d, out, a.Out))
	return masked, out
}

// TestCopyWords: around an access and a block, and nothing after the last word.
func TestCopyWords(t *testing.T) {
	for _, n := range []int{1, 3, 4, 5, 1023, 1024, 1025, 3000} {
		in := make([]int32, n)
		for i := range in {
			in[i] = int32(-i - 1)
		}
		onDevices(t, func(t *testing.T, d hip.Device) {
			from, err := hip.Upload(d, in)
			require.NoError(t, err)
			to, err := d.Alloc(4 * int64(n+1))
			require.NoError(t, err)
			require.NoError(t, CopyWords(d, to, from, n))
			got := make([]int32, n+1)
			require.NoError(t, hip.ReadOf(d, got, to))
			require.Equal(t, append(in[:n:n], 0), got)
		})
	}
}

func TestTakeRows(t *testing.T) {
	for _, width := range []int{1, 7, 32, 1030} {
		from, kept := make([]float32, 3*width), make([]float32, 2*width)
		for i := range from {
			from[i] = float32(i)
		}
		for i := range kept {
			kept[i] = -float32(i) - 0.5
		}
		for _, sources := range [][]int32{{2}, {-2, 0, 0, -1, 1}} {
			onDevices(t, func(t *testing.T, d hip.Device) {
				upload := func(values []float32) hip.Ptr {
					p, err := hip.Upload(d, values)
					require.NoError(t, err)
					return p
				}
				at, err := hip.Upload(d, sources)
				require.NoError(t, err)
				a := &TakeRowsArgs{
					Out: upload(make([]float32, len(sources)*width)), From: upload(from), Kept: upload(kept), Sources: at,
					Rows: int32(len(sources)), FromRows: 3, KeptRows: 2, Width: int32(width),
				}
				require.NoError(t, TakeRows(d, a))
				got := make([]float32, len(sources)*width)
				require.NoError(t, hip.ReadOf(d, got, a.Out))
				for i, source := range sources {
					want := append(from[:len(from):len(from)], kept...)[max(source, 2-source)*int32(width):]
					if source >= 0 {
						want = from[source*int32(width):]
					}
					require.Equal(t, want[:width], got[i*width:(i+1)*width])
				}
			})
		}
	}
}
