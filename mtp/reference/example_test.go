package reference_test

import (
	"fmt"
	"log"

	"github.com/nlpodyssey/spago/mat"

	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/mtp/reference"
)

// Four drafts after a prompt, in float64: those of the example of package mtp.
func Example() {
	head, err := reference.Load(m3tiny.Checkpoint())
	if err != nil {
		log.Fatal(err)
	}
	tokens, states := m3tiny.NewTarget().Prompt()
	text := []int{0} // its first token; no row has it
	for _, t := range tokens {
		text = append(text, int(t))
	}
	var values []float64
	for _, s := range states {
		values = append(values, float64(hip.BF16(s).Float32()))
	}
	hidden := mat.NewDense[float64](mat.WithShape(len(tokens), len(values)/len(tokens)), mat.WithBacking(values))

	drafts, err := head.Chain(text, hidden, 4, mtp.ChainFirst)
	if err != nil {
		log.Fatal(err)
	}
	for _, id := range drafts.IDs {
		fmt.Printf("%c", id)
	}
	fmt.Println()
	// Output: ing.
}
