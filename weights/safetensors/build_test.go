package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
)

// rawFile returns a safetensors file of this JSON header and data section.
func rawFile(header, data string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+data...)
}

// part is a tensor to be written.
type part struct {
	name  string
	dtype Dtype
	shape []int
	data  string
}

// buildFile returns a safetensors file that holds the parts in order.
func buildFile(parts ...part) []byte {
	var header []string
	var data bytes.Buffer
	for _, p := range parts {
		begin := data.Len()
		data.WriteString(p.data)
		header = append(header, tensorJSON(p.name, string(p.dtype), p.shape, begin, data.Len()))
	}
	return rawFile("{"+strings.Join(header, ",")+"}", data.String())
}

// tensorJSON returns one member of a header.
func tensorJSON(name, dtype string, shape []int, begin, end int) string {
	key, _ := json.Marshal(name)
	dims := strings.ReplaceAll(strings.Trim(fmt.Sprint(shape), "[]"), " ", ",")
	return fmt.Sprintf(`%s:{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]}`, key, dtype, dims, begin, end)
}

// bytePart is a U8 vector.
func bytePart(name, data string) part { return part{name, U8, []int{len(data)}, data} }
