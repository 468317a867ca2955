package weights

import (
	"encoding/binary"
	"io/fs"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// TestSeen: eight bytes at a time, every number that is none is seen, wherever it lies, and
// no other is taken for one.
func TestSeen(t *testing.T) {
	for _, c := range []struct {
		dtype     safetensors.Dtype
		width     int
		zero      []uint32
		finite    []uint32
		notFinite []uint32
	}{
		{safetensors.F32, 4, []uint32{0, 1 << 31}, []uint32{1, math.Float32bits(-math.MaxFloat32), math.Float32bits(1), 1<<31 | 1},
			[]uint32{0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff}},
		{safetensors.BF16, 2, []uint32{0, 0x8000}, []uint32{1, 0x7f7f, 0xff7f, 0x3f80, 0x8001}, []uint32{0x7f80, 0xff80, 0x7fc0, 0xffff}},
		{safetensors.F16, 2, []uint32{0, 0x8000}, []uint32{1, 0x7bff, 0xfbff, 0x3c00, 0x8001}, []uint32{0x7c00, 0xfc00, 0x7e00, 0xffff}},
		{safetensors.F8E4M3, 1, []uint32{0, 0x80}, []uint32{1, 0x7e, 0xfe, 0x38, 0x81}, []uint32{0x7f, 0xff}},
	} {
		put := func(p []byte, at int, v uint32) {
			var b [4]byte
			binary.LittleEndian.PutUint32(b[:], v)
			copy(p[at*c.width:], b[:c.width])
		}
		for n := 1; n <= 80; n++ {
			for at := range n {
				for _, all := range c.zero {
					for flags, values := range map[uint32][]uint32{0: c.zero, seenNonZero: c.finite, seenNonZero | seenNotFinite: c.notFinite} {
						for _, v := range values {
							p := make([]byte, n*c.width)
							for i := range n {
								put(p, i, all)
							}
							put(p, at, v)
							s := seen{dtype: c.dtype}
							s.add(p, 0)
							require.Equal(t, flags, s.flags.Load(), "%v: %#x at %d of %d", c.dtype, v, at, n)
						}
					}
				}
			}
		}
	}
}

// valueFaults spoil the values of one tensor.
var valueFaults = map[string]struct {
	tensor string
	fill   func(p []byte) // with what
	rule   error          // nil: nothing is wrong
}{
	"all zero":              {ehProj, func(p []byte) { clear(p) }, ruleZero},
	"all minus zero":        {ehProj, func(p []byte) { fill(p, 0x80) }, ruleZero},
	"zero expert":           {moeTensor + "experts.1.w3.weight", func(p []byte) { clear(p) }, ruleZero},
	"zero norm":             {tensor0 + "enorm.weight", func(p []byte) { clear(p) }, ruleZero},
	"zero bias":             {moeTensor + "e_score_correction_bias", func(p []byte) { clear(p) }, nil},
	"NaN code at the end":   {ehProj, func(p []byte) { p[len(p)-1] = 0x7f }, ruleNotFinite},
	"NaN scale":             {ehProj + "_scale_inv", func(p []byte) { p[3] = 255 }, ruleNotFinite},
	"scale that overflows":  {ehProj + "_scale_inv", func(p []byte) { fill(p, 254) }, ruleNotFinite},
	"scale that may":        {ehProj + "_scale_inv", func(p []byte) { p[0] = 246 }, nil},
	"infinite norm":         {tensor0 + "enorm.weight", func(p []byte) { copy(p[6:], "\x80\x7f") }, ruleNotFinite},
	"NaN in the KV scale":   {attnTensor + "k_proj.k_scale", func(p []byte) { fill(p, 0xff) }, ruleNotFinite},
	"NaN in the bias":       {moeTensor + "e_score_correction_bias", func(p []byte) { fill(p, 0xff) }, ruleNotFinite},
	"NaN in the embeddings": {attnTensor + "k_proj.weight", func(p []byte) { copy(p[len(p)/2:], "\xff\xff") }, ruleNotFinite},
}

func fill(p []byte, b byte) {
	for i := range p {
		p[i] = b
	}
}

// spoiled returns a head of ordinary values but for one tensor.
func spoiled(t *testing.T, tensor string, spoil func(p []byte)) *synthetic {
	s := synthesize(headOf(t, smallHead, Parallel{}), mixed)
	found := false
	for i := range s.parts {
		p := &s.parts[i]
		data := []byte(p.data)
		ordinary(p.dtype, data)
		if p.name == tensor {
			found = true
			spoil(data)
		}
		p.data = string(data)
	}
	require.True(t, found, tensor)
	return s
}

// ordinary fills a tensor with a number.
func ordinary(dtype safetensors.Dtype, p []byte) {
	switch dtype {
	case safetensors.F32:
		for i := 0; i < len(p); i += 4 {
			binary.LittleEndian.PutUint32(p[i:], math.Float32bits(0.125))
		}
	case safetensors.BF16:
		for i := 0; i < len(p); i += 2 {
			binary.LittleEndian.PutUint16(p[i:], uint16(hip.ToBF16(0.125)))
		}
	case safetensors.F16:
		for i := 0; i < len(p); i += 2 {
			binary.LittleEndian.PutUint16(p[i:], 0x3000)
		}
	case safetensors.F8E4M3:
		fill(p, 0x7e)
	default:
		fill(p, 120)
	}
}

// TestCheckWeights: one fault is reported, by the check alone and by loads that use the
// file in place, that upload it, and that populate it; without the option it loads.
func TestCheckWeights(t *testing.T) {
	for name, c := range valueFaults {
		t.Run(name, func(t *testing.T) {
			s := spoiled(t, c.tensor, c.fill)
			refused := func(err error) {
				t.Helper()
				if c.rule == nil {
					require.NoError(t, err)
					return
				}
				require.ErrorIs(t, err, c.rule)
				problems := auditOf(t, err)
				require.Len(t, problems, 1, "%v", err)
				require.Equal(t, strings.TrimSuffix(c.tensor, "_scale_inv"), problems[0].Tensor)
			}
			for name, fsys := range map[string]fs.FS{"disk": os.DirFS(onDisk(t, s.files(2))), "memory": inMap(s.files(1))} {
				plan, err := NewPlan(openHead(t, fsys), headOf(t, smallHead, Parallel{}))
				require.NoError(t, err)
				_, err = plan.CheckWeights(t.Context(), nil)
				refused(err)
				for _, d := range []hip.Device{hip.NewHost(), hip.NewReference()} {
					for _, populate := range []bool{false, true} {
						l, err := plan.Load(t.Context(), d, populate, true, nil)
						refused(err)
						if err == nil {
							require.NoError(t, l.Close())
						}
						l, err = plan.Load(t.Context(), d, populate, false, nil)
						require.NoError(t, err, name)
						require.NoError(t, l.Close())
					}
					require.NoError(t, d.Close())
				}
			}
		})
	}
}

// TestNormsCenteredOnOne: weights for x · w are noted, those for x · (1 + w) are not.
func TestNormsCenteredOnOne(t *testing.T) {
	s := spoiled(t, tensor0+"enorm.weight", func([]byte) {})
	plan, err := NewPlan(openHead(t, inMap(s.files(1))), headOf(t, smallHead, Parallel{}))
	require.NoError(t, err)
	notes, err := plan.CheckWeights(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, notes)

	s = spoiled(t, tensor0+"enorm.weight", func(p []byte) {
		for i := 0; i < len(p); i += 2 {
			binary.LittleEndian.PutUint16(p[i:], uint16(hip.ToBF16(0.9+float32(i%32)/128)))
		}
	})
	plan, err = NewPlan(openHead(t, inMap(s.files(1))), headOf(t, smallHead, Parallel{}))
	require.NoError(t, err)
	notes, err = plan.CheckWeights(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], "1 norm is centered on 1, model.layers.0.enorm.weight first")
}
