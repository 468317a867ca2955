package vec_test

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/vec"
)

// Every level of vector instructions of the machine finds the same token, and the same
// probability of it but for rounding.
func Example() {
	logits := []float32{0, 2, 5, 1}
	for _, simd := range hip.SIMDLevels() {
		token := vec.Largest(simd, logits)
		probability := 1 / vec.ExpSum(simd, logits, logits[token])
		if simd == hip.SIMDNone {
			fmt.Printf("token %d, probability %.4f\n", token, probability)
		} else if token != 2 || probability < 0.9303 || probability > 0.9304 {
			fmt.Println(simd, token, probability)
		}
	}
	// Output: token 2, probability 0.9304
}
