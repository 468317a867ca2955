package mtp_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// selfAttn is the prefix of a module's tensors of attention.
func selfAttn(module int) string {
	return fmt.Sprintf("model.mtp.layers.%d.transformer_layer.self_attn.", module)
}

// scaledModules are scales that differ between modules; the second module's values have that
// of its keys, the third has none.
var scaledModules = map[string]float32{
	selfAttn(0) + "k_proj.k_scale": 0.011, selfAttn(0) + "v_proj.v_scale": 0.003, selfAttn(1) + "kv_scale": 0.02,
}

// TestDraftFromFP8Cache: by every chain, drafts from caches that round are those of the
// oracle with the same rounding, over rows in pieces and after a move to another cache.
func TestDraftFromFP8Cache(t *testing.T) {
	for _, format := range []attention.CacheFormat{attention.CacheBF16, attention.CacheFP8, attention.CacheFP8Index} {
		for _, c := range chainCases {
			if c.rule() == "" {
				continue // the oracle lacks it
			}
			t.Run(c.name+"/"+format.String(), func(t *testing.T) {
				scales := map[string]float32{}
				for name, scale := range scaledModules {
					if module, _ := weights.MTPLayer(name); module < c.modules {
						scales[name] = scale
					}
				}
				files := synthetic{modules: c.modules, kvScales: scales}.files(t)
				options := c.options()
				options.CacheFormat = format
				want := oracle(t, files)
				want.CacheFormat = format
				for _, d := range []hip.Device{hip.NewReference(), hip.NewHost(2)} {
					options.Device = openDevice(t, d)
					head := load(t, files, options)
					cache, other := newCache(t, head, 9), newCache(t, head, 9)
					const n = 28
					x := randomPassage(77, n)
					tokens, hidden := x.prompt(n)
					chain, err := want.Chain(tokens, hidden, 4, c.rule())
					require.NoError(t, err)
					s := cache.NewSequence()
					draft(t, head, x.batch(s, 0, 13), 0)
					var moved bytes.Buffer
					_, err = s.WriteTo(&moved)
					require.NoError(t, err)
					read, err := other.ReadSequence(&moved)
					require.NoError(t, err)
					for _, s := range []*mtp.Sequence{s, read} {
						requireChain(t, chain, draft(t, head, x.batch(s, 13, n), 4))
						require.NoError(t, s.Close())
					}
				}
			})
		}
	}
}

// TestKVScalesRefused: a head whose cache divides by a scale does not load with one that it
// cannot divide by, and the error names the tensor. Another cache does not read it.
func TestKVScalesRefused(t *testing.T) {
	for _, name := range []string{"k_proj.k_scale", "v_proj.v_scale", "kv_scale"} {
		for _, bad := range []float32{0, -0.5, float32(math.NaN()), float32(math.Inf(1))} {
			files := synthetic{modules: 2, bundled: true, kvScales: map[string]float32{selfAttn(1) + name: bad}}.files(t)
			_, err := mtp.LoadFS(t.Context(), files, mtp.Options{CacheFormat: attention.CacheFP8})
			problems := weights.Problems(err)
			require.Len(t, problems, 1)
			var problem *weights.Problem
			require.ErrorAs(t, problems[0], &problem)
			require.Contains(t, problem.Tensor, selfAttn(1)+name)
			require.Equal(t, fmt.Sprint(bad), problem.Got)
			_, _, inspected := mtp.InspectFS(files, mtp.Options{CacheFormat: attention.CacheFP8})
			require.EqualError(t, inspected, err.Error())
			load(t, files, mtp.Options{})

			exact := oracle(t, files)
			exact.CacheFormat = attention.CacheFP8Index
			tokens, hidden := randomPassage(1, 3).prompt(3)
			_, err = exact.Forward(1, tokens[1:], []int{0, 1, 2}, hidden)
			require.ErrorIs(t, err, hip.ErrInput)
		}
	}
}

// TestCacheBytesByFormat: FP8 halves keys and values of bfloat16, and index keys by option.
func TestCacheBytesByFormat(t *testing.T) {
	files := synthetic{}.files(t)
	bytes := map[attention.CacheFormat]int64{}
	for _, format := range []attention.CacheFormat{attention.CacheBF16, attention.CacheF32, attention.CacheFP8, attention.CacheFP8Index} {
		bytes[format] = newCache(t, load(t, files, mtp.Options{CacheFormat: format}), 5).Bytes()
	}
	const keys, index, frequencies = 5 * blockSize * 2 * 2 * 8, 5 * blockSize * 8, 8 * 2
	require.Equal(t, map[attention.CacheFormat]int64{
		attention.CacheBF16: 2*keys + 2*index + frequencies, attention.CacheF32: 4*keys + 4*index + frequencies,
		attention.CacheFP8: keys + 2*index + frequencies, attention.CacheFP8Index: keys + index + frequencies,
	}, bytes)
}
