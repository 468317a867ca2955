package weights

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestArea: any piece of an area's rows, laid end to end, is what a
// loop over rows and columns would gather.
func TestArea(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	const rows, cols = 23, 17
	data := make([]byte, rows*cols)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	c := openHead(t, inMap(map[string][]byte{"a.safetensors": buildFile(bytePart("before", "x"), bytePart("t", string(data)), bytePart("z", "y"))}))
	tensor, ok := c.Tensor("t")
	require.True(t, ok)
	for range 300 {
		first, left := r.IntN(rows), r.IntN(cols)
		if r.IntN(4) == 0 {
			left = 0
		}
		a := area{tensor: tensor, start: int64(first*cols + left), stride: cols, rows: 1 + int64(r.IntN(rows-first)), width: 1 + int64(r.IntN(cols-left))}
		if left == 0 && r.IntN(2) == 0 {
			a.width = cols
		}
		var want []byte
		for row := range a.rows {
			at := a.start + row*cols
			want = append(want, data[at:at+a.width]...)
			require.Equal(t, at+a.width, a.start+(&area{rows: row + 1, width: a.width, stride: cols}).extent())
		}
		require.Len(t, want, int(a.bytes()))
		begin := r.IntN(len(want))
		got := make([]byte, r.IntN(len(want)-begin+1))
		require.NoError(t, a.readAt(got, int64(begin)))
		require.Equal(t, want[begin:begin+len(got)], got)
		require.Equal(t, want[begin], data[a.place(int64(begin))-tensor.Offset()])
	}
	beyond := area{tensor: tensor, start: rows*cols - 1, stride: cols, rows: 1, width: 2}
	require.Error(t, beyond.readAt(make([]byte, 2), 0), "never beyond the tensor")
}

// TestShare places a share by hand: rows 130 to 260 and columns 128 to 300 of a
// matrix of blocks, in scales of 3 rows and 3 columns.
func TestShare(t *testing.T) {
	part := Part{Shape: []int{300, 300}, KeepRows: interval{130, 260}, KeepCols: interval{128, 300}}
	for _, test := range []struct {
		format      Format
		data, scale area
	}{
		{F32, area{start: 4 * (130*300 + 128), width: 4 * 172, stride: 1200, rows: 130}, area{}},
		{BF16, area{start: 2 * (130*300 + 128), width: 2 * 172, stride: 600, rows: 130}, area{}},
		{MXFP8, area{start: 130*300 + 128, width: 172, stride: 300, rows: 130}, area{start: 130*10 + 4, width: 6, stride: 10, rows: 130}},
		{FP8F32, area{start: 130*300 + 128, width: 172, stride: 300, rows: 130}, area{start: 4 * (3 + 1), width: 8, stride: 12, rows: 2}},
		{fp8BF16, area{start: 130*300 + 128, width: 172, stride: 300, rows: 130}, area{start: 2 * (3 + 1), width: 4, stride: 6, rows: 2}},
	} {
		data, scale := (&origin{format: test.format}).share(&part)
		require.Equal(t, test.data, data, test.format)
		require.Equal(t, test.scale, scale, test.format)
	}
}
