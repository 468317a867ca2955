package m3tiny

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// LMHeadHash names the model of a checkpoint: "sha256:" and the hash of its lm_head, or of
// embed_tokens where it has none, in bfloat16. It is the same for every format that
// the rest of the model is stored in.
func LMHeadHash(fsys fs.FS) (string, error) {
	checkpoint, err := weights.OpenCheckpoint(fsys)
	if err != nil {
		return "", err
	}
	defer checkpoint.Close()
	for _, name := range []string{"lm_head.weight", "language_model.lm_head.weight", "model.embed_tokens.weight", "language_model.model.embed_tokens.weight"} {
		if t, ok := checkpoint.Tensor(name); ok {
			return hashBF16(t)
		}
	}
	return "", fmt.Errorf("lm_head.weight: %w", fs.ErrNotExist)
}

// hashBF16 hashes the values of a tensor in bfloat16.
func hashBF16(t *safetensors.Tensor) (string, error) {
	const chunk = 4 << 20
	format := map[safetensors.Dtype]weights.Format{safetensors.F32: weights.F32, safetensors.F16: weights.F16, safetensors.BF16: weights.BF16}[t.Dtype]
	if format == 0 {
		return "", fmt.Errorf("%s is %v, want BF16, F16 or F32", t.Name, t.Dtype)
	}
	hash := sha256.New()
	width := t.Dtype.Bits() / 8
	buf, values, narrow := make([]byte, chunk), make([]float32, chunk/width), []byte(nil)
	for off := int64(0); off < t.Size(); off += chunk {
		part := buf[:min(chunk, t.Size()-off)]
		if _, err := t.ReadAt(part, off); err != nil {
			return "", err
		}
		if format != weights.BF16 {
			values = values[:len(part)/width]
			format.Decode(values, part, nil)
			narrow = narrow[:0]
			for _, x := range values {
				narrow = binary.LittleEndian.AppendUint16(narrow, uint16(hip.ToBF16(x)))
			}
			part = narrow
		}
		hash.Write(part)
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil)), nil
}
