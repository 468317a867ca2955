package moe_test

import (
	"encoding/binary"
	"fmt"
	"log"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/moe"
	"github.com/drafthead/drafthead/weights"
)

// Two experts, of which each row picks the one whose gate it fits. Both saturate at the
// limit, 7: the first gives 1 · 7 in column 0, the second 2 · 7 in column 1.
func Example() {
	d := hip.NewHost()
	defer d.Close()
	matrix := map[string]*weights.Matrix{
		"gate.weight":        matrixOf(d, 2, 1, 0, 0, 1),
		"experts.w13_weight": matrixOf(d, 2, 100, 100, 0, 0, 100, 100, 0, 0), // of each expert w1, then w3
		"experts.w2_weight":  matrixOf(d, 1, 1, 0, 0, 2),                     // of each expert two rows
	}
	bias, err := hip.Upload(d, make([]float32, 2))
	check(err)
	experts := moe.NewExperts(moe.Config{
		Hidden: 2, Intermediate: 1, Experts: 2, TopK: 1, Scale: 1, Alpha: 1.702, Limit: 7, Beta: 1,
	}, func(name string) *weights.Matrix { return matrix[name] }, bias)

	x, err := hip.Upload(d, []float32{1, 0, 0, 1}) // two rows
	check(err)
	var ws moe.Workspace
	defer ws.Free(d)
	check(experts.Forward(d, &ws, x, 0, x, 2)) // hidden takes the place of x; no residual

	ids, hidden := make([]int32, 2), make([]float32, 4)
	check(hip.ReadOf(d, ids, ws.Stage("expert_ids")))
	check(hip.ReadOf(d, hidden, x))
	for row := range ids {
		fmt.Printf("row %d: expert %d, hidden %.3f\n", row, ids[row], hidden[2*row:][:2])
	}
	// Output:
	// row 0: expert 0, hidden [7.000 0.000]
	// row 1: expert 1, hidden [0.000 14.000]
}

// matrixOf uploads a matrix of so many columns, in float32.
func matrixOf(d hip.Device, cols int, values ...float32) *weights.Matrix {
	data, err := binary.Append(nil, binary.LittleEndian, values)
	check(err)
	p, err := hip.Upload(d, data)
	check(err)
	m, err := weights.NewMatrix(d, cols, []weights.Segment{weights.DenseSegment(weights.F32, len(values)/cols, cols, p, 0)})
	check(err)
	return m
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
