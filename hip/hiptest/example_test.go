package hiptest_test

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// uploadTwo is the code under test: after an error nothing may be left allocated.
func uploadTwo(d hip.Device) error {
	a, err := hip.Upload(d, []int32{1})
	if err != nil {
		return err
	}
	defer d.Free(a)
	b, err := hip.Upload(d, []int32{2})
	if err != nil {
		return err
	}
	return d.Free(b)
}

// Every operation fails once. Each time the error is reported and nothing is leaked.
func ExampleNewFaulty() {
	host := hip.NewReference()
	defer host.Close()
	broken := errors.New("broken")
	d := hiptest.NewFaulty(host, broken)

	for n := 1; ; n++ {
		d.FailAt(n)
		err := uploadTwo(d)
		if err == nil {
			break
		}
		_, live := hiptest.InUse(host)
		fmt.Println(n, errors.Is(err, broken), errors.Is(err, hip.ErrOutOfMemory), live)
	}
	// Output:
	// 1 true true 0
	// 2 true false 0
	// 3 true true 0
	// 4 true false 0
}
