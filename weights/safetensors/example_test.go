package safetensors_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"testing/fstest"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// Write two tensors to a file and read them back.
func Example() {
	dir, err := os.MkdirTemp("", "safetensors")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	var values bytes.Buffer
	if err := binary.Write(&values, binary.LittleEndian, []float32{1, 2, 3, 4, 5, 6}); err != nil {
		log.Fatal(err)
	}
	file, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		log.Fatal(err)
	}
	err = safetensors.Write(file, map[string]string{"format": "pt"}, []*safetensors.Tensor{
		safetensors.NewTensor("mask", safetensors.U8, []int{2}, bytes.NewReader([]byte{1, 0})),
		safetensors.NewTensor("weight", safetensors.F32, []int{2, 3}, bytes.NewReader(values.Bytes())),
	})
	if err := errors.Join(err, file.Close()); err != nil {
		log.Fatal(err)
	}

	f, err := safetensors.Open(os.DirFS(dir), "model.safetensors")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	for _, t := range f.Tensors() {
		fmt.Println(t.Name, t.Dtype, t.Shape, t.Size(), "bytes")
	}
	if weight, ok := f.Tensor("weight"); ok {
		row := make([]float32, 3)
		if _, err := weight.ReadAt(make([]byte, 12), 12); err != nil {
			log.Fatal(err)
		}
		if data, ok := weight.Bytes(); ok { // in place
			if _, err := binary.Decode(data[12:], binary.LittleEndian, row); err != nil {
				log.Fatal(err)
			}
			fmt.Println(row)
		}
	}
	// Output:
	// weight F32 [2 3] 24 bytes
	// mask U8 [2] 2 bytes
	// [4 5 6]
}

// Open a folder of shards for the tensors of one layer. The other shards may be absent.
func ExampleOpenFolder() {
	var shard bytes.Buffer
	err := safetensors.Write(&shard, nil, []*safetensors.Tensor{
		safetensors.NewTensor("layers.7.weight", safetensors.U8, []int{2}, bytes.NewReader([]byte{1, 2})),
	})
	if err != nil {
		log.Fatal(err)
	}
	folder, err := safetensors.OpenFolder(fstest.MapFS{
		"model-00002-of-00002.safetensors": {Data: shard.Bytes()},
		"model.safetensors.index.json": {Data: []byte(`{"weight_map": {
			"layers.0.weight": "model-00001-of-00002.safetensors",
			"layers.7.weight": "model-00002-of-00002.safetensors"}}`)},
	}, func(tensor string) bool { return tensor == "layers.7.weight" })
	if errors.Is(err, fs.ErrNotExist) {
		log.Fatal("the download is not complete: ", err)
	}
	if err != nil {
		log.Fatal(err)
	}
	defer folder.Close()
	for _, t := range folder.Tensors() {
		fmt.Println(t.Name, t.Dtype, t.Shape)
	}
	for tensor, file := range folder.Index() {
		if _, opened := folder.Tensor(tensor); !opened {
			fmt.Println("not opened:", tensor, "in", file)
		}
	}
	// Output:
	// layers.7.weight U8 [2]
	// not opened: layers.0.weight in model-00001-of-00002.safetensors
}

// A file that was written wrongly is refused with every rule that it breaks.
func ExampleFormatError() {
	header := `{"a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 2]}}`
	data := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+"xyz"...)
	_, err := safetensors.Open(fstest.MapFS{"x.safetensors": {Data: data}}, "x.safetensors")
	fmt.Println(err)
	var format *safetensors.FormatError
	fmt.Println(errors.As(err, &format), format.Tensor, format.Got)
	// Output:
	// safetensors: x.safetensors: tensor "a": data_offsets do not fit dtype and shape: got 2 bytes, want 3 bytes for U8 of shape [3]
	// safetensors: x.safetensors: bytes after the last tensor: got 3 bytes of data, want 2
	// true a 2 bytes
}
