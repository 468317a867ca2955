package weights_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"strings"
	"testing/fstest"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// How do I read a checkpoint? Take inventory, plan, then move bytes. Two tensors
// of different formats become one matrix.
func Example() {
	const prefix = "model.mtp.layers.0.transformer_layer.block_sparse_moe.shared_experts."
	checkpoint, err := weights.OpenCheckpoint(fstest.MapFS{"model.safetensors": {Data: file(
		tensor(prefix+"gate_proj.weight", safetensors.F32, []float32{1, 2}, 1, 2),
		tensor(prefix+"up_proj.weight", safetensors.BF16, []hip.BF16{hip.ToBF16(3), hip.ToBF16(4)}, 1, 2),
		tensor("model.norm.weight", safetensors.BF16, []hip.BF16{0}, 1),
	)}})
	if err != nil {
		log.Fatal(err)
	}
	defer checkpoint.Close()

	row := func(name string) weights.Part {
		return weights.Part{
			Tensor: prefix + name, Shape: []int{1, 2}, KeepRows: [2]int{0, 1}, KeepCols: [2]int{0, 2},
		}
	}
	name := strings.Replace(prefix, ".mtp.", ".", 1) + "gate_up_proj.weight"
	plan, err := weights.NewPlan(checkpoint, []weights.Param{{
		Name: name, Parts: []weights.Part{row("gate_proj.weight"), row("up_proj.weight")},
	}})
	if err != nil {
		log.Fatal(err) // the problems, by tensor
	}
	report := plan.Report()
	fmt.Println(report.Tensors, "tensors,", report.Bytes, "bytes; not the head's:", report.Ignored)

	device := hip.NewHost()
	defer device.Close()
	loaded, err := plan.Load(context.Background(), device, false, false, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer loaded.Close()
	y := make([]float32, 2)
	if err := multiply(device, loaded.Matrix(name), y, []float32{10, 1}); err != nil {
		log.Fatal(err)
	}
	fmt.Println("gate and up of [10 1]:", y)
	// Output:
	// 2 tensors, 12 bytes; not the head's: map[model.norm:1]
	// gate and up of [10 1]: [12 34]
}

// What is wrong with a checkpoint? All of it at once, each with its tensor and rule.
func ExampleProblems() {
	checkpoint, err := weights.OpenCheckpoint(fstest.MapFS{"model.safetensors": {Data: file(
		tensor("lm_head.weight", safetensors.F32, []float32{1, 2}, 2, 1),
		tensor("lm_head.zeros", safetensors.F32, []float32{1}, 1),
	)}})
	if err != nil {
		log.Fatal(err)
	}
	defer checkpoint.Close()
	whole := [2]int{0, 2}
	_, err = weights.NewPlan(checkpoint, []weights.Param{{Name: "lm_head.weight", Parts: []weights.Part{
		{Tensor: "lm_head.weight", Shape: []int{2, 2}, KeepRows: whole, KeepCols: whole},
	}}})
	for i, problem := range weights.Problems(err) {
		fmt.Printf("%d. %v\n", i+1, problem)
		if p, ok := errors.AsType[*weights.Problem](problem); ok {
			fmt.Printf("   %s: %v\n", p.Tensor, p.Rule)
		}
	}
	// Output:
	// 1. weights: lm_head.weight: wrong shape: got [2 1], want [2 2]
	//    lm_head.weight: wrong shape
	// 2. weights: lm_head.zeros: no parameter takes the tensor
	//    lm_head.zeros: no parameter takes the tensor
}

// multiply computes y = m · x for one row x.
func multiply(d hip.Device, m *weights.Matrix, y, x []float32) error {
	px, err := hip.Upload(d, x)
	if err != nil {
		return err
	}
	py, err := d.Alloc(4 * int64(len(y)))
	if err != nil {
		return err
	}
	if err := m.Product(d, py, px, 1); err != nil {
		return err
	}
	return hip.ReadOf(d, y, py)
}

// tensor describes a tensor of these values.
func tensor(name string, dtype safetensors.Dtype, values any, shape ...int) *safetensors.Tensor {
	data, err := binary.Append(nil, binary.LittleEndian, values)
	if err != nil {
		log.Fatal(err)
	}
	return safetensors.NewTensor(name, dtype, shape, bytes.NewReader(data))
}

// file makes a file of the tensors.
func file(tensors ...*safetensors.Tensor) []byte {
	var b bytes.Buffer
	if err := safetensors.Write(&b, nil, tensors); err != nil {
		log.Fatal(err)
	}
	return b.Bytes()
}
