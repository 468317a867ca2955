package synthetic

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkReadAt makes tensors of each width on one core.
func BenchmarkReadAt(b *testing.B) {
	codes, _, err := mxfp8Normal(1)
	require.NoError(b, err)
	for _, c := range []struct {
		name   string
		values stream
	}{
		{"bytes", stream{bytes: codes}},
		{"bf16", stream{halves: bf16Normal(1)}},
		{"f32", stream{singles: f32Normal(1)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := make([]byte, 4<<20)
			b.SetBytes(int64(len(p)))
			for i := range int64(b.N) {
				c.values.readAt(p, i*int64(len(p)))
			}
		})
	}
}
