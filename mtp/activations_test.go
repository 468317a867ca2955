package mtp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// TestActivations: a step of at least 5 rows rounds what MXFP8 weights multiply, and one of
// fewer does not; weights of other formats never do.
func TestActivations(t *testing.T) {
	x := randomPassage(50, 12)
	run := func(t *testing.T, format string, d hip.Device, rows int, a hip.Activations) (hidden, projected []float32) {
		head := load(t, synthetic{format: format}.files(t), mtp.Options{Device: d, CacheFormat: attention.CacheF32, Activations: a})
		b := x.batch(newCache(t, head, 4).NewSequence(), 0, rows)
		b.Observe = func(s mtp.Stage) {
			if s.Name == "eh_proj_out" {
				projected = append([]float32(nil), s.Float32...)
			}
		}
		return forward(t, head, b, 0), projected
	}
	for name, open := range map[string]func() hip.Device{
		"reference": hip.NewReference, "host": func() hip.Device { return hip.NewHost(2) }, "checked host": func() hip.Device { return hip.Check(hip.NewHost(2)) },
	} {
		t.Run(name, func(t *testing.T) {
			d := openDevice(t, open())
			for _, rows := range []int{4, 5, 12} {
				hidden, projected := run(t, "MXFP8", d, rows, hip.ActivationsExact)
				rounded, roundedProjected := run(t, "MXFP8", d, rows, hip.ActivationsMXFP8)
				if rows < 5 {
					require.Equal(t, hidden, rounded)
					continue
				}
				require.Error(t, hiptest.Within(roundedProjected, projected, 1e-3), "%d rows are not rounded", rows)
				require.NoError(t, hiptest.Within(roundedProjected, projected, 0.1))
				_, again := run(t, "MXFP8", hip.NewReference(), rows, hip.ActivationsMXFP8)
				require.NoError(t, hiptest.Within(roundedProjected, again, 1e-5), "the reference rounds alike")
			}
			exact, _ := run(t, "BF16", d, 12, hip.ActivationsExact)
			asked, _ := run(t, "BF16", d, 12, hip.ActivationsMXFP8)
			require.Equal(t, exact, asked)
		})
	}
}

// TestActivationsOnGPUs compares every launch of prefills and drafts with its twin.
func TestActivationsOnGPUs(t *testing.T) {
	x := randomPassage(51, 40)
	test := func(t *testing.T, d hip.Device) {
		head := load(t, synthetic{format: "MXFP8"}.files(t), mtp.Options{Device: hip.Check(d), Activations: hip.ActivationsMXFP8})
		s := newCache(t, head, 12).NewSequence()
		forward(t, head, x.batch(s, 0, 30), 0)
		b := x.batch(s, 30, 36)
		b.Sequences[0].Drafts = 2
		drafts, err := head.Draft(t.Context(), b)
		require.NoError(t, err)
		require.Len(t, drafts[0].Tokens, 2)
	}
	hiptest.OnGPUs(t, test)
	hiptest.OnGPUs(t, test, "gfx950")
}

// TestActivationsReplayed: a recorded graph rounds too, and nothing is allocated for it
// again.
func TestActivationsReplayed(t *testing.T) {
	x := randomPassage(52, 12)
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		head := load(t, synthetic{format: "MXFP8"}.files(t), mtp.Options{Device: d, Activations: hip.ActivationsMXFP8})
		s := newCache(t, head, 4).NewSequence()
		first := forward(t, head, x.batch(s, 0, 12), 0)
		memory := head.Memory()
		for range 3 {
			require.Equal(t, first, forward(t, head, x.batch(s, 0, 12), 0))
		}
		require.Equal(t, memory, head.Memory())
	}, "gfx950")
}

func TestActivationsRefused(t *testing.T) {
	_, err := mtp.LoadFS(t.Context(), synthetic{}.files(t), mtp.Options{Activations: 9})
	var input *mtp.InputError
	require.ErrorAs(t, err, &input)
	require.ErrorContains(t, err, "Options.Activations is Activations(9), want ActivationsExact or ActivationsMXFP8")
}
