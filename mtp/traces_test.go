package mtp_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// recorded reads all elements of a tensor.
func recorded[T any](t testing.TB, file *safetensors.File, name string) []T {
	t.Helper()
	tensor, ok := file.Tensor(name)
	require.True(t, ok, name)
	raw := make([]byte, tensor.Size())
	_, err := tensor.ReadAt(raw, 0)
	require.NoError(t, err)
	values := make([]T, len(raw)/binary.Size(*new(T)))
	_, err = binary.Decode(raw, binary.LittleEndian, values)
	require.NoError(t, err)
	return values
}

// TestTracesOfAlignedModules drafts along the text of a trained target with three aligned
// modules, by every rule: the drafts are those recorded with it, unless two tokens were
// within 1e-3 of each other.
func TestTracesOfAlignedModules(t *testing.T) {
	const k, nearTie = 5, 1e-3
	dir := hiptest.Shared(t, "m3-tiny")
	stride := 64
	if hiptest.RaceDetector {
		stride = 256
	}
	for _, rule := range []mtp.Chain{mtp.ChainFirst, mtp.ChainModOwn, mtp.ChainAligned, mtp.ChainTarget} {
		t.Run(string(rule), func(t *testing.T) {
			head := load(t, os.DirFS(dir+"/aligned3-mxfp8"), mtp.Options{
				Device: openDevice(t, hip.NewHost()), Chain: rule, MaxDraft: k, CacheFormat: attention.CacheF32,
			})
			cache, width := newCache(t, head, 24), head.Config().HiddenSize
			compared := 0
			for trace := range 8 {
				file, err := safetensors.Open(os.DirFS(dir+"/traces"), fmt.Sprintf("trace-%02d.safetensors", trace))
				require.NoError(t, err)
				var tokens []int32
				for _, id := range recorded[int64](t, file, "tokens") {
					tokens = append(tokens, int32(id))
				}
				hidden := recorded[uint16](t, file, "hidden")
				want, margins := recorded[int64](t, file, "drafts_aligned3_"+string(rule)), recorded[float32](t, file, "margin_aligned3_"+string(rule))
				first := int(recorded[int64](t, file, "prompt_len")[0]) + trace*stride/8
				require.NoError(t, file.Close())
				s := cache.NewSequence()
				for n := first; n < len(tokens); n += stride {
					from := s.Len()
					drafts, err := head.Draft(t.Context(), &mtp.Batch{
						Sequences: []mtp.Rows{{Sequence: s, Position: from, Tokens: tokens[from+1 : n+1], Drafts: k}},
						Hidden:    mtp.Hidden{BFloat16: hidden[from*width : n*width]},
					})
					require.NoError(t, err)
					require.Len(t, drafts[0].Tokens, k)
					for j, id := range drafts[0].Tokens {
						if margins[n*k+j] < nearTie {
							break
						}
						require.Equal(t, want[n*k+j], int64(id), "trace %d, token %d, draft %d", trace, n, j)
						compared++
					}
				}
				require.NoError(t, s.Close())
			}
			require.GreaterOrEqual(t, compared, 8*256/stride*k*9/10)
		})
	}
}
