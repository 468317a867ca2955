package norm_test

import (
	"fmt"
	"log"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/norm"
)

// A row whose mean square is 6.25 is divided by 2.5, and multiplied by 1 + w.
func Example() {
	d := hip.NewHost()
	defer d.Close()
	x, err := hip.Upload(d, []float32{3, -4, 0, 0})
	check(err)
	w, err := hip.Upload(d, []float32{0, 0.5, 0, 0})
	check(err)
	check(norm.RMSNorm(d, x, x, w, 1, 4, 0)) // in place: one row of 4 values, eps 0
	y := make([]float32, 4)
	check(hip.ReadOf(d, y, x))
	fmt.Println(y)
	// Output: [1.2 -2.4 0 0]
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
