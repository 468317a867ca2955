package gpu_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/drafthead/drafthead/hip"
	_ "github.com/drafthead/drafthead/hip/gpu" // without it hip.Open finds none
)

// The first GPU, or the CPU where there is none: that is the caller's choice.
func Example() {
	d, err := hip.Open(0)
	if errors.Is(err, hip.ErrNoDevice) {
		d, err = hip.NewHost(), nil
	}
	if err != nil {
		log.Fatal(err) // a GPU that is there and cannot be used
	}
	defer d.Close()
	p, err := hip.Upload(d, []float32{1, 2, 3})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Free(p)
	values := make([]float32, 3)
	fmt.Println(hip.ReadOf(d, values, p), values)
	// Output: <nil> [1 2 3]
}
