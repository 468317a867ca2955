package hiptest

import (
	"testing"

	"github.com/drafthead/drafthead/hip"
)

// Bench times a case on d after it has compared the results with the reference's. A case
// with wrong results fails and gives no number. If the case states its bytes, Bench reports
// the rate.
func Bench(b *testing.B, d hip.Device, c Case) {
	b.Helper()
	if err := c.check(d); err != nil {
		b.Fatalf("not timed: %v", err)
	}
	p, err := c.Setup(d)
	if err != nil {
		b.Fatal(err)
	}
	if p.Free != nil {
		defer p.Free()
	}
	if c.Bytes > 0 {
		b.SetBytes(c.Bytes)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Run(); err != nil {
			b.Fatal(err)
		}
	}
	if err := d.Sync(); err != nil {
		b.Fatal(err)
	}
}
