package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights"
)

// wordsOf adds up data word by word, in the plainest way.
func wordsOf(data []byte) (sum uint64) {
	for i, b := range data {
		sum ^= uint64(b) << (8 * (i % 8))
	}
	return sum
}

func randomBytes(n int) []byte {
	random := rand.New(rand.NewPCG(3, uint64(n)))
	p := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], random.Uint64())
	}
	return p[:n]
}

// TestXor is of every level of vector instructions, at every alignment and around
// the sizes at which the loops turn.
func TestXor(t *testing.T) {
	data := randomBytes(5000)
	for _, simd := range hip.SIMDLevels() {
		for _, n := range []int{0, 1, 7, 8, 9, 31, 32, 33, 511, 512, 513, 1023, 1024, 4100} {
			for _, at := range []int{0, 1, 8, 63} {
				for _, ahead := range []int{0, 4096} {
					part := data[at : at+n]
					require.Equal(t, wordsOf(part), xorFast(part, ahead, simd), "%v: %d bytes from %d", simd, n, at)
				}
			}
		}
	}
}

// TestRead reads several blocks of uneven ends on every device, and checks that
// no byte is left out: any change of one changes a sum.
func TestRead(t *testing.T) {
	for _, n := range []int{1, 100, readBlock - 1, readBlock, readBlock + 1, 3*readBlock + 777} {
		data := randomBytes(n)
		for _, d := range []hip.Device{hip.NewReference(), hip.NewHost(), hip.NewHost(3)} {
			p, err := hip.Upload(d, data)
			require.NoError(t, err)
			out, err := d.Alloc(8 * int64(readBlocks(int64(n))))
			require.NoError(t, err)
			require.NoError(t, launchRead(d, &readArgs{Data: p, Out: out, Bytes: int64(n), Ahead: 1024}))
			sums := make([]uint64, readBlocks(int64(n)))
			require.NoError(t, hip.ReadOf(d, sums, out))
			for i, sum := range sums {
				require.Equal(t, wordsOf(data[i*readBlock:min((i+1)*readBlock, n)]), sum, "%d bytes, block %d", n, i)
			}
			require.NoError(t, d.Close())
		}
	}
}

// gpu is the host under another kind, as a stand-in for a device that copies.
type gpu struct{ hip.Device }

func (g gpu) Info() hip.Info { return hip.Info{Name: "stand-in", Kind: "hip", Threads: 2} }

func TestCeiling(t *testing.T) {
	for _, device := range []func(hip.Device) hip.Device{
		func(d hip.Device) hip.Device { return d },
		func(d hip.Device) hip.Device { return gpu{d} },
	} {
		host := hip.NewHost()
		d := device(host)
		const rows, cols = 300, 1000
		small, err := hip.Upload(d, randomBytes(2*cols))
		require.NoError(t, err)
		large, err := hip.Upload(d, randomBytes(2*rows*cols))
		require.NoError(t, err)
		m, err := weights.NewMatrix(d, cols, []weights.Segment{
			weights.DenseSegment(weights.BF16, 1, cols, small, 0), weights.DenseSegment(weights.BF16, rows, cols, large, 0),
		})
		require.NoError(t, err)
		_, live := hiptest.InUse(host)
		c, err := newCeiling(d, m)
		require.NoError(t, err)
		if d.Info().Kind == "hip" {
			require.EqualValues(t, 2*2*rows*cols, c.bytes, "a copy reads and writes")
		} else {
			require.EqualValues(t, 2*rows*cols, c.bytes, "the largest segment is read")
			require.Contains(t, prefetchDistances, c.ahead)
		}
		rate, err := c.sample()
		require.NoError(t, err)
		require.Positive(t, rate)
		require.NoError(t, c.Close())
		_, after := hiptest.InUse(host)
		require.Equal(t, live, after)
		require.NoError(t, d.Close())
		_, err = newCeiling(d, m)
		require.ErrorContains(t, err, "read ceiling")
	}
}

// BenchmarkRead is the ceiling by itself, of each level and prefetch distance.
func BenchmarkRead(b *testing.B) {
	const n = 512 << 20
	for name, d := range hiptest.Hosts(0) {
		p, err := d.Alloc(n)
		require.NoError(b, err)
		require.NoError(b, d.Write(p, make([]byte, n)))
		out, err := d.Alloc(8 * int64(readBlocks(n)))
		require.NoError(b, err)
		for _, ahead := range prefetchDistances {
			b.Run(fmt.Sprintf("%s/ahead %d", name, ahead), func(b *testing.B) {
				b.SetBytes(n)
				for b.Loop() {
					require.NoError(b, launchRead(d, &readArgs{Data: p, Out: out, Bytes: n, Ahead: ahead}))
				}
			})
		}
		require.NoError(b, d.Close())
	}
}
