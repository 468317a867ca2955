package weights_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"math"
	"strings"
	"testing/fstest"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// How do I read a checkpoint? Take inventory, plan, then move bytes. Two tensors
// of different formats become one matrix.
func Example() {
	const prefix = "model.mtp.layers.0.transformer_layer.block_sparse_moe.shared_experts."
	checkpoint, err := weights.OpenCheckpoint(fstest.MapFS{"model.safetensors": {Data: safetensors(
		stored{prefix + "gate_proj.weight", "F32", []int{1, 2}, float32s(1, 2)},
		stored{prefix + "up_proj.weight", "BF16", []int{1, 2}, bfloat16s(3, 4)},
		stored{"model.norm.weight", "BF16", []int{1}, bfloat16s(0)},
	)}}, weights.Needed)
	if err != nil {
		log.Fatal(err)
	}
	defer checkpoint.Close()

	row := func(name, id string) weights.Part {
		return weights.Part{
			Tensor: prefix + name, ID: id, Expert: -1,
			Rows: 1, Cols: 2, KeepRows: weights.All(1), KeepCols: weights.All(2),
		}
	}
	name := strings.Replace(prefix, ".mtp.", ".", 1) + "gate_up_proj.weight"
	plan, err := weights.NewPlan(checkpoint, []weights.Param{{
		Name: name, Cols: 2, Parts: []weights.Part{row("gate_proj.weight", "0"), row("up_proj.weight", "1")},
	}}, weights.PlanOptions{})
	if err != nil {
		log.Fatal(err) // the problems, by tensor
	}
	report := plan.Report()
	fmt.Println(report.Tensors, "tensors,", report.Bytes, "bytes; not the head's:", report.Ignored)

	device := hip.NewHost()
	defer device.Close()
	loaded, err := plan.Load(context.Background(), device, weights.LoadOptions{})
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
	// 2 tensors, 12 bytes; not the head's: [{model.norm 1}]
	// gate and up of [10 1]: [12 34]
}

// What is wrong with a file? All of it at once, each with its rule and tensor.
func ExampleProblems() {
	damaged := safetensors(
		stored{"a", "F32", []int{3}, float32s(1, 2)},
		stored{"b", "BF16", []int{2, 2}, bfloat16s(1, 2)},
	)
	_, err := weights.OpenFile(fstest.MapFS{"x.safetensors": {Data: damaged}}, "x.safetensors")
	for i, problem := range weights.Problems(err) {
		fmt.Printf("%d. %v\n", i+1, problem)
		if e, ok := errors.AsType[*weights.FormatError](problem); ok {
			fmt.Printf("   %s: %v\n", e.Tensor, e.Err)
		}
	}
	// Output:
	// 1. x.safetensors: tensor "a": data_offsets do not fit dtype and shape: got 8 bytes, want 12 bytes for F32 of shape [3]
	//    a: data_offsets do not fit dtype and shape
	// 2. x.safetensors: tensor "b": data_offsets do not fit dtype and shape: got 4 bytes, want 8 bytes for BF16 of shape [2 2]
	//    b: data_offsets do not fit dtype and shape
}

// multiply computes y = m · x for one row x.
func multiply(d hip.Device, m *weights.Matrix, y, x []float32) error {
	px, err := hip.Upload(d, x)
	if err != nil {
		return err
	}
	py, err := hip.AllocOf[float32](d, len(y))
	if err != nil {
		return err
	}
	if err := m.Product(d, py, px, 1); err != nil {
		return err
	}
	return hip.ReadOf(d, y, py)
}

// stored is a tensor of a file to be made.
type stored struct {
	name, dtype string
	shape       []int
	data        []byte
}

// safetensors makes a file of the tensors.
func safetensors(tensors ...stored) []byte {
	var entries []string
	var data []byte
	for _, t := range tensors {
		shape := strings.ReplaceAll(fmt.Sprint(t.shape), " ", ",")
		end := len(data) + len(t.data)
		entries = append(entries, fmt.Sprintf(`%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, t.name, t.dtype, shape, len(data), end))
		data = append(data, t.data...)
	}
	header := "{" + strings.Join(entries, ",") + "}"
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(file, header...), data...)
}

func float32s(values ...float32) (data []byte) {
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return data
}

func bfloat16s(values ...float32) (data []byte) {
	for _, v := range values {
		data = binary.LittleEndian.AppendUint16(data, uint16(math.Float32bits(v)>>16))
	}
	return data
}
