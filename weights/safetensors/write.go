package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// Write writes a file of the tensors: first the header, then the bytes of each, read
// as they are written. Tensors of other files can be among them. The widest dtypes come
// first and keep the order of tensors otherwise, so that each tensor is aligned to its
// dtype in the file.
//
// The error joins a [*FormatError] for everything that is wrong with the tensors; nothing
// is written then.
func Write(w io.Writer, metadata map[string]string, tensors []*Tensor) error {
	tensors = slices.Clone(tensors)
	slices.SortStableFunc(tensors, func(a, b *Tensor) int { return cmp.Compare(b.Dtype.Bits(), a.Dtype.Bits()) })
	header, err := Header(metadata, tensors)
	if err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return fmt.Errorf("safetensors: write header: %w", err)
	}
	for _, t := range tensors {
		n, err := io.Copy(w, io.NewSectionReader(t, 0, t.size))
		if err == nil && n < t.size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("safetensors: write tensor %s: %w", quote(t.Name), err)
		}
	}
	return nil
}

// Header returns the bytes of a file before the data of its tensors, which follow in the
// order given without gaps. Their number is a multiple of 8. Header reads no data: tensors
// without data will do.
func Header(metadata map[string]string, tensors []*Tensor) ([]byte, error) {
	if err := checkWritable(metadata, tensors); err != nil {
		return nil, err
	}
	text := []byte{'{'}
	member := func(key string, value any) error {
		pair, err := json.Marshal(map[string]any{key: value})
		if err != nil {
			return fmt.Errorf("safetensors: %w", err)
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = append(text, pair[1:len(pair)-1]...)
		return nil
	}
	if metadata != nil {
		if err := member(metadataKey, metadata); err != nil {
			return nil, err
		}
	}
	begin := int64(0)
	for _, t := range tensors {
		err := member(t.Name, struct {
			Dtype   Dtype    `json:"dtype"`
			Shape   []int    `json:"shape"`
			Offsets [2]int64 `json:"data_offsets"`
		}{t.Dtype, append([]int{}, t.Shape...), [2]int64{begin, begin + t.size}})
		if err != nil {
			return nil, err
		}
		begin += t.size
	}
	text = append(text, '}')
	text = append(text, bytes.Repeat([]byte(" "), -len(text)&7)...)
	if len(text) > maxHeaderLength {
		return nil, &FormatError{Rule: ruleHeaderTooLarge, Got: byteCount(int64(len(text))), Want: "at most " + byteCount(maxHeaderLength)}
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), nil
}

// checkWritable reports all that would make a file that nobody opens.
func checkWritable(metadata map[string]string, tensors []*Tensor) error {
	var bad problems
	for key, value := range metadata {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			bad.add(&FormatError{Key: key, Rule: ruleMetadata, Got: quote(value), Want: "UTF-8"})
		}
	}
	names := make(map[string]bool, len(tensors))
	total := int64(0)
	for _, t := range tensors {
		report := func(rule ruleText, got, want string) {
			bad.add(&FormatError{Tensor: t.Name, Rule: rule, Got: got, Want: want})
		}
		if t.Name == metadataKey || !utf8.ValidString(t.Name) {
			report(ruleName, quote(t.Name), "UTF-8 other than "+metadataKey)
		}
		if names[t.Name] {
			report(ruleDuplicateKey, "", "")
		}
		names[t.Name] = true
		size, rule := t.check()
		switch known, ok := t.data.(interface{ Size() int64 }); {
		case rule != "":
			report(rule, fmt.Sprintf("%v of shape %v", t.Dtype, t.Shape), "")
		case size != t.size:
			report(ruleSizeMismatch, byteCount(t.size), byteCount(size))
		case ok && known.Size() != size:
			report(ruleData, byteCount(known.Size()), fmt.Sprintf("%s for %v of shape %v", byteCount(size), t.Dtype, t.Shape))
		case total+size < total:
			report(ruleSizeOverflow, byteCount(size), "")
		default:
			total += size
		}
	}
	return bad.err()
}
