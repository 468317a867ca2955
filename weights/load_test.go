package weights

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// bare hides every optional interface of a device.
type bare struct{ hip.Device }

// matrixValues reads a matrix back from the device and decodes it.
func matrixValues(t testing.TB, d hip.Device, m *Matrix) []float32 {
	t.Helper()
	var values []float32
	for _, s := range m.segments {
		f := s.format
		data, row := make([]byte, f.rowBytes(m.Cols)), make([]float32, m.Cols)
		var scale []byte
		if f.quantized() {
			_, n := f.scaleShape(1, m.Cols)
			scale = make([]byte, int64(n)*f.scaleBytes())
		}
		for r := range int64(s.rows) {
			require.NoError(t, d.Read(data, s.data.Add(r*s.rowStride)))
			if f.quantized() {
				at := (int64(s.scaleRow) + r) / int64(formats[f].blockRows)
				require.NoError(t, d.Read(scale, s.scale.Add(at*s.scaleStride)))
			}
			f.Decode(row, data, scale)
			s.global.scale(row)
			values = append(values, row...)
		}
	}
	return values
}

// requireShare compares all that was loaded with a rank's share of the weights.
func requireShare(t testing.TB, d hip.Device, l *Loaded, params []Param, s *synthetic) {
	t.Helper()
	for _, p := range params {
		var want []float32
		rows := 0
		for _, part := range p.Parts {
			values := s.values[part.Tensor]
			for r := part.KeepRows[0]; r < part.KeepRows[1]; r++ {
				keep := part.keepCols()
				want = append(want, values[r*part.cols()+keep[0]:r*part.cols()+keep[1]]...)
			}
			rows += part.keepRows().Len()
		}
		if p.vector() {
			require.Nil(t, l.Matrix(p.Name))
			ptr, values := l.Vector(p.Name)
			require.Equal(t, want, values, p.Name)
			got := make([]float32, len(want))
			require.NoError(t, hip.ReadOf(d, got, ptr))
			require.Equal(t, want, got, p.Name)
			continue
		}
		ptr, values := l.Vector(p.Name)
		require.Zero(t, ptr)
		require.Nil(t, values)
		m := l.Matrix(p.Name)
		if rows == 0 {
			require.Nil(t, m, p.Name)
			continue
		}
		require.NotNil(t, m, p.Name)
		require.Equal(t, [2]int{rows, p.cols()}, [2]int{m.Rows, m.Cols}, p.Name)
		if got := matrixValues(t, d, m); !slices.Equal(want, got) { // quick, where there are many
			require.Equal(t, want, got, p.Name)
		}
	}
}

// inUse is what a device has given out.
func inUse(d hip.Device) [2]int64 {
	bytes, live := hiptest.InUse(d)
	return [2]int64{bytes, int64(live)}
}

// TestLoadWays loads the same weights in every way: the values are the same, and
// all is given back.
func TestLoadWays(t *testing.T) {
	s := synthesize(headOf(t, smallHead, Parallel{}), mixed)
	files := s.files(3)
	mapped := runtime.GOOS != "windows"
	onDisk := func(t *testing.T) fs.FS { return os.DirFS(onDisk(t, files)) }
	readerAt := func(*testing.T) fs.FS { return inMap(files) }
	stream := func(*testing.T) fs.FS { return streams{inMap(files)} }
	hide := func(d hip.Device) hip.Device { return bare{d} }
	keep := func(d hip.Device) hip.Device { return d }
	tests := []struct {
		name    string
		fsys    func(t *testing.T) fs.FS
		open    func() hip.Device
		wrap    func(d hip.Device) hip.Device
		inPlace bool
	}{
		{"mapped, host", onDisk, func() hip.Device { return hip.NewHost() }, keep, mapped},
		{"mapped, reference", onDisk, hip.NewReference, keep, mapped},
		{"mapped, checked host", onDisk, func() hip.Device { return hip.NewHost() }, hip.Check, mapped},
		{"mapped, no adopter", onDisk, func() hip.Device { return hip.NewHost() }, hide, false},
		{"io.ReaderAt, host", readerAt, func() hip.Device { return hip.NewHost() }, keep, false},
		{"io.ReaderAt, no adopter", readerAt, func() hip.Device { return hip.NewHost() }, hide, false},
		{"in memory, host", stream, func() hip.Device { return hip.NewHost() }, keep, true},
		{"in memory, no adopter", stream, func() hip.Device { return hip.NewHost() }, hide, false},
	}
	for _, test := range tests {
		for _, parallel := range []Parallel{{}, {Tensor: Shard{1, 2}, Expert: Shard{0, 2}}} {
			for _, populate := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/populate %v/rank %d", test.name, populate, parallel.Tensor.Rank), func(t *testing.T) {
					params := headOf(t, smallHead, parallel)
					plan, err := NewPlan(openHead(t, test.fsys(t)), params)
					require.NoError(t, err)
					device := test.open()
					defer device.Close()
					d, seen := test.wrap(device), int64(0)
					l, err := plan.Load(t.Context(), d, populate, false, func(done, total int64) {
						require.Equal(t, plan.Report().Bytes, total)
						require.GreaterOrEqual(t, done, seen)
						seen = done
					})
					require.NoError(t, err)
					require.Equal(t, plan.Report().Bytes, seen, "all is reported in the end")
					require.Equal(t, test.inPlace, l.InPlace())
					requireShare(t, d, l, params, s)
					require.Nil(t, l.Matrix("absent"))
					ptr, values := l.Vector("absent")
					require.Zero(t, ptr)
					require.Nil(t, values)
					require.NoError(t, l.Close())
					require.Equal(t, [2]int64{}, inUse(device))
					require.NoError(t, l.Close(), "a second time")
				})
			}
		}
	}
}

// TestLoadInPlaceTakesNoMemory: on the host only tables and vectors are allocated.
func TestLoadInPlaceTakesNoMemory(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files are not mapped on windows")
	}
	h := smallHead
	h.hidden, h.inner = 512, 512
	plan, _ := headPlan(t, h, always(MXFP8))
	d := hip.NewReference()
	defer d.Close()
	l, err := plan.Load(t.Context(), d, false, false, nil)
	require.NoError(t, err)
	defer l.Close()
	require.Less(t, inUse(d)[0], plan.Report().Bytes/50)
}

// TestLoadTwice: two heads may share a checkpoint and a device.
func TestLoadTwice(t *testing.T) {
	plan, s := headPlan(t, smallHead, mixed)
	d := hip.NewHost()
	defer d.Close()
	params := headOf(t, smallHead, Parallel{})
	first, err := plan.Load(t.Context(), d, false, false, nil)
	require.NoError(t, err)
	second, err := plan.Load(t.Context(), d, false, false, nil)
	require.NoError(t, err)
	require.NoError(t, first.Close())
	requireShare(t, d, second, params, s)
	require.NoError(t, second.Close())
	require.Equal(t, [2]int64{}, inUse(d))
}

// TestLoadWithoutKVScales: an optional parameter that is absent has no values.
func TestLoadWithoutKVScales(t *testing.T) {
	params := headOf(t, smallHead, Parallel{})
	s := synthesize(params, mixed)
	remove(attnTensor + "k_proj.k_scale")(s)
	plan, err := NewPlan(openHead(t, inMap(s.files(1))), params)
	require.NoError(t, err)
	d := hip.NewReference()
	defer d.Close()
	l, err := plan.Load(t.Context(), d, false, false, nil)
	require.NoError(t, err)
	ptr, values := l.Vector("model." + attn0 + "attn.k_scale")
	require.Zero(t, ptr)
	require.Nil(t, values)
	ptr, values = l.Vector("model." + attn0 + "attn.v_scale")
	require.NotZero(t, ptr)
	require.Len(t, values, 1)
	require.NoError(t, l.Close())
}

// TestLoadLargeTensor crosses the chunks of an upload, strided and not.
func TestLoadLargeTensor(t *testing.T) {
	const rows, cols = 1100, 8192
	whole := Part{Tensor: "model.embed_tokens.weight", Shape: []int{rows, cols}, KeepRows: all(rows), KeepCols: all(cols)}
	cut := whole
	cut.KeepRows, cut.KeepCols = interval{3, rows - 3}, interval{1, cols - 3}
	data := make([]byte, 4*rows*cols)
	for i := 0; i < len(data); i += 4 {
		data[i], data[i+1], data[i+2], data[i+3] = byte(i>>2), byte(i>>10), byte(i>>18), 0x40
	}
	fsys := inMap(map[string][]byte{"model.safetensors": buildFile(part{whole.Tensor, safetensors.F32, []int{rows, cols}, string(data)})})
	for name, keep := range map[string]Part{"whole": whole, "strided": cut} {
		t.Run(name, func(t *testing.T) {
			params := []Param{{Name: whole.Tensor, Parts: []Part{keep}}}
			plan, err := NewPlan(openHead(t, fsys), params)
			require.NoError(t, err)
			d, calls := hip.NewReference(), 0
			defer d.Close()
			l, err := plan.Load(context.Background(), d, false, false, func(done, _ int64) {
				calls++
				require.LessOrEqual(t, done, int64(calls)*uploadChunk)
			})
			require.NoError(t, err)
			require.Equal(t, 3, calls)
			m := l.Matrix(whole.Tensor)
			got := make([]uint32, m.Rows*m.Cols)
			require.NoError(t, hip.ReadOf(d, got, m.segments[0].data))
			for i, bits := range got {
				at := (keep.KeepRows[0]+i/m.Cols)*cols + keep.KeepCols[0] + i%m.Cols
				if bits != uint32(at)&0xffffff|0x40<<24 {
					require.Failf(t, "wrong value", "element %d is %#x, %v", i, bits, math.Float32frombits(bits))
				}
			}
			require.NoError(t, l.Close())
		})
	}
}
