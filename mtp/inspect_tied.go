package mtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// stored returns the tensor of a name in the checkpoint, bundled or not.
func stored(checkpoint *safetensors.Folder, name string) (*safetensors.Tensor, bool) {
	if t, ok := checkpoint.Tensor(name); ok {
		return t, true
	}
	return checkpoint.Tensor(bundledPrefix + name)
}

var errNotTied = errors.New("not what it is tied to")

// checkTied refuses an lm_head of the checkpoint's own where the config ties it to
// embed_tokens: either the config or the file is wrong, and the drafts would be too. One
// of the same bytes may be there.
func (c *Config) checkTied(ctx context.Context, checkpoint *safetensors.Folder, opts Options) error {
	if !c.TieWordEmbeddings || opts.LMHead != nil {
		return nil
	}
	problem := func(t *safetensors.Tensor, got string) error {
		return &weights.Problem{
			Tensor: t.Name, Rule: errNotTied, Got: got,
			Want: "the bytes of " + embedTokens + ", or none: tie_word_embeddings is true",
		}
	}
	for _, t := range checkpoint.Tensors() {
		if bare := strings.TrimPrefix(t.Name, bundledPrefix); strings.HasPrefix(bare, "lm_head.") && bare != lmHead {
			return problem(t, "a tensor beside "+lmHead)
		}
	}
	own, ok := stored(checkpoint, lmHead)
	if !ok {
		return nil
	}
	embed, ok := stored(checkpoint, embedTokens)
	if !ok {
		return problem(own, "no "+embedTokens)
	}
	same, err := sameBytes(ctx, own, embed)
	switch {
	case err != nil:
		return fmt.Errorf("mtp: compare %s with %s: %w", own.Name, embed.Name, err)
	case !same:
		return problem(own, fmt.Sprintf("%v %v of other bytes", own.Dtype, own.Shape))
	}
	return nil
}

// noteTied says that an lm_head of the same bytes is not loaded again.
func (c *Config) noteTied(checkpoint *safetensors.Folder, report *weights.Report, opts Options) {
	own, ok := stored(checkpoint, lmHead)
	if !ok || !c.TieWordEmbeddings || opts.LMHead != nil {
		return
	}
	delete(report.Ignored, own.Name)
	report.Notes = append(report.Notes, fmt.Sprintf("%s has the bytes of %s, which it is tied to: not loaded again", own.Name, embedTokens))
}

// sameBytes reports whether two tensors are the same but for their names.
func sameBytes(ctx context.Context, a, b *safetensors.Tensor) (bool, error) {
	if a.Dtype != b.Dtype || !slices.Equal(a.Shape, b.Shape) {
		return false, nil
	}
	const chunk = 4 << 20
	var bufA, bufB []byte
	for off := int64(0); off < a.Size(); off += chunk {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n := int(min(chunk, a.Size()-off))
		bufA, bufB = slices.Grow(bufA[:0], n)[:n], slices.Grow(bufB[:0], n)[:n]
		if _, err := a.ReadAt(bufA, off); err != nil {
			return false, err
		}
		if _, err := b.ReadAt(bufB, off); err != nil {
			return false, err
		}
		if !bytes.Equal(bufA, bufB) {
			return false, nil
		}
	}
	return true, nil
}
