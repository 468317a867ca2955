package kernels

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// pickOverRanks is pick with the columns of the logits on several ranks, which begin where
// firsts says. The checks are the ranks'.
func pickOverRanks(d hip.Device, logits []float32, vocab, k int, firsts []int, checks []uint64) (ids []int32, probabilities []float32, differs int32, err error) {
	rows, ranks := len(logits)/vocab, len(firsts)
	var records, out hip.Buffer
	defer func() { err = errors.Join(err, records.Free(d), out.Free(d)) }()
	if err := errors.Join(records.Grow(d, ranks, RecordBytes(rows, k)), out.Grow(d, 2*rows*k+1, 4)); err != nil {
		return nil, nil, 0, err
	}
	for rank, first := range firsts {
		end := vocab
		if rank+1 < ranks {
			end = firsts[rank+1]
		}
		var own []float32
		for row := range rows {
			own = append(own, logits[row*vocab+first:row*vocab+end]...)
		}
		var tokens []int32
		for token := first; token < end; token++ {
			tokens = append(tokens, int32(token))
		}
		var top TopK
		in, err1 := hip.Upload(d, own)
		list, err2 := hip.Upload(d, tokens)
		check, err3 := hip.Upload(d, checks[rank:rank+1])
		if err := errors.Join(err1, err2, err3, top.Grow(d, rows, end-first, k),
			top.Record(d, records.Ptr().Add(int64(rank)*int64(RecordBytes(rows, k))), check, in, list, rows, end-first, k),
			top.Free(d), d.Free(in), d.Free(list), d.Free(check)); err != nil {
			return nil, nil, 0, err
		}
	}
	n := rows * k
	picked := Picked{IDs: out.Ptr(), Probabilities: out.Ptr().Add(4 * int64(n))}
	said := out.Ptr().Add(8 * int64(n))
	if err := MergeRanks(d, picked, said, records.Ptr(), ranks, rows, k); err != nil {
		return nil, nil, 0, err
	}
	ids, probabilities = make([]int32, n), make([]float32, n)
	one := make([]int32, 1)
	err = errors.Join(hip.ReadOf(d, ids, picked.IDs), hip.ReadOf(d, probabilities, picked.Probabilities), hip.ReadOf(d, one, said))
	return ids, probabilities, one[0], err
}

// TestTopKOverRanks: wherever the columns are cut, also into ranks without any, the same
// tokens are picked as from whole rows.
func TestTopKOverRanks(t *testing.T) {
	onDevices(t, func(t *testing.T, d hip.Device) {
		random := rand.New(rand.NewPCG(1, 2))
		vocab := 2*topkPart + 100
		rows := [][]float32{make([]float32, vocab), make([]float32, vocab), make([]float32, vocab), make([]float32, vocab)}
		for i := range vocab {
			rows[0][i] = float32(random.NormFloat64())
			rows[1][i] = float32(random.IntN(50)) // ties
			rows[2][i] = float32(math.Inf(-1))
			rows[3][i] = float32(random.NormFloat64())
		}
		rows[2][77], rows[3][5000] = 3, nan
		var logits []float32
		for _, row := range rows {
			logits = append(logits, row...)
		}
		for _, k := range []int{1, 2, 64} {
			wantIDs, wantProbabilities, err := pick(d, logits, vocab, k)
			require.NoError(t, err)
			for _, firsts := range [][]int{{0}, {0, 4096}, {0, 0, 1, 100, vocab - 1, vocab}, {0, 64, 128, 5000}} {
				checks := make([]uint64, len(firsts))
				for i := range checks {
					checks[i] = 1 << 40
				}
				ids, probabilities, differs, err := pickOverRanks(d, logits, vocab, k, firsts, checks)
				require.NoError(t, err)
				require.Equal(t, wantIDs, ids, "k %d, ranks from %v", k, firsts)
				require.Zero(t, differs)
				for i, p := range probabilities {
					if w := wantProbabilities[i]; w != w {
						require.True(t, p != p, "probability %d", i)
					} else {
						require.InEpsilon(t, 1+float64(w), 1+float64(p), 1e-6, "probability %d", i)
					}
				}
				if n := len(checks); n > 1 {
					checks[n-1]++
					_, _, differs, err = pickOverRanks(d, logits, vocab, k, firsts, checks)
					require.NoError(t, err)
					require.Equal(t, int32(n), differs)
				}
			}
		}
	})
}

// TestJoinColumns: rows that an all-gather leaves by rank come out whole.
func TestJoinColumns(t *testing.T) {
	onDevices(t, func(t *testing.T, d hip.Device) {
		first, rows := []int32{0, 300, 300, 301, 556}, 3
		width, widest := 556, 300
		gathered := make([]float32, 4*rows*widest)
		var want []float32
		for row := range rows {
			for c := range width {
				want = append(want, float32(1000*row+c))
			}
		}
		for rank := range 4 {
			n := int(first[rank+1] - first[rank])
			for row := range rows {
				copy(gathered[rank*rows*widest+row*n:][:n], want[row*width+int(first[rank]):])
			}
		}
		from, err1 := hip.Upload(d, gathered)
		table, err2 := hip.Upload(d, first)
		out, err3 := d.Alloc(int64(4 * rows * width))
		require.NoError(t, errors.Join(err1, err2, err3))
		require.NoError(t, JoinColumns(d, &JoinColumnsArgs{Out: out, From: from, First: table, Rows: int32(rows), Ranks: 4, Width: int32(width), Widest: int32(widest)}))
		got := make([]float32, len(want))
		require.NoError(t, hip.ReadOf(d, got, out))
		require.Equal(t, want, got)
		require.NoError(t, Clear(d, out, len(want)-1))
		require.NoError(t, hip.ReadOf(d, got, out))
		require.Equal(t, append(make([]float32, len(want)-1), want[len(want)-1]), got)
		require.NoError(t, errors.Join(d.Free(from), d.Free(table), d.Free(out)))
	})
}
