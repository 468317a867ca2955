package hiptest

import (
	"testing"

	"github.com/drafthead/drafthead/hip"
)

// Bench times a case on d, after it compared equal to the reference: a case
// that did not is an error, not a number. Where the case states its bytes,
// the rate is reported.
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
