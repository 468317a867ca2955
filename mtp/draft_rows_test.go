package mtp_test

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// routed is a device that counts the rows that are routed to experts.
type routed struct {
	hip.Device
	rows []int
}

func (r *routed) Launch(k *hip.Kernel, grid hip.Grid, args unsafe.Pointer) error {
	if k.Name == "route" { // a block for each row
		r.rows = append(r.rows, grid.Blocks)
	}
	return r.Device.Launch(k, grid, args)
}

// TestDraftLeavesOut: of the rows that a chain commits only each sequence's last one goes
// to experts, and the drafts are those that follow from hidden states of all rows.
func TestDraftLeavesOut(t *testing.T) {
	const n, k = 7, 3
	x, y := randomPassage(41, 40), randomPassage(42, 40)
	device := &routed{Device: openDevice(t, hip.NewReference())}
	head := load(t, synthetic{modules: 1}.files(t), mtp.Options{Device: device})
	cache := newCache(t, head, 40)
	a, b := cache.NewSequence(), cache.NewSequence()
	for from := 0; from < 3*n; from += n {
		batch := func() *mtp.Batch { return join(x.batch(a, from, from+n), y.batch(b, b.Len(), b.Len()+n-2)) }
		end := b.Len()
		hidden, err := head.Forward(t.Context(), batch(), 0)
		require.NoError(t, err)
		want, _, err := head.TopK(t.Context(), hidden, []int{n - 1, 2*n - 3}, 0, 1)
		require.NoError(t, err)
		require.NoError(t, a.Truncate(from))
		require.NoError(t, b.Truncate(end))
		device.rows = nil
		got := draft(t, head, batch(), k)
		require.Equal(t, []int{2, 2, 2}, device.rows)
		require.Equal(t, want, []int32{got.ids()[0][0], got.ids()[1][0]})
	}
}

// TestDraftOfNothingCommits: a prompt that is committed in pieces, with k 0, is drafted
// from as one that is given at once, and a step that hands nothing on costs no more than
// keys and values.
func TestDraftOfNothingCommits(t *testing.T) {
	x, y := randomPassage(43, 30), randomPassage(44, 30)
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			device := &routed{Device: openDevice(t, hip.NewReference())}
			options := c.options()
			options.Device = device
			head := load(t, synthetic{modules: c.modules}.files(t), options)
			cache := newCache(t, head, 40)
			whole, pieces := [2]*mtp.Sequence{cache.NewSequence(), cache.NewSequence()}, [2]*mtp.Sequence{cache.NewSequence(), cache.NewSequence()}
			const k = 2
			want := draft(t, head, join(x.batch(whole[0], 0, 11), y.batch(whole[1], 0, 8)), k)
			device.rows = nil
			for _, ends := range [][2]int{{5, 1}, {6, 7}} {
				b := join(x.batch(pieces[0], pieces[0].Len(), ends[0]), y.batch(pieces[1], pieces[1].Len(), ends[1]))
				drafts, err := draftOf(t.Context(), head, b, 0)
				require.NoError(t, err)
				require.Equal(t, drafted{{}, {}}, drafts)
				require.Equal(t, ends, [2]int{pieces[0].Len(), pieces[1].Len()})
			}
			handed := 0 // an aligned chain hands hidden states from step to step
			if c.chain != mtp.ChainTarget {
				handed = 2 * max(0, c.maxDraft-1)
			}
			require.Len(t, device.rows, handed)
			got := draft(t, head, join(x.batch(pieces[0], 6, 11), y.batch(pieces[1], 7, 8)), k)
			require.Equal(t, want, got)
		})
	}
}
