package hiptest

import (
	"testing"

	"github.com/drafthead/drafthead/hip"
)

// bench times a case on d after it has compared the results with the reference's. A case
// with wrong results fails and gives no number.
func bench(b *testing.B, d hip.Device, c Case) {
	b.Helper()
	s := &scope{TB: b}
	defer s.end()
	run, results := c.Setup(s, d)
	floats, ints, err := c.read(run, results)
	if err == nil {
		err = c.check(b, floats, ints)
	}
	if err != nil {
		b.Fatalf("not timed: %v", err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := run(); err != nil {
			b.Fatal(err)
		}
	}
	if err := d.Sync(); err != nil {
		b.Fatal(err)
	}
}
