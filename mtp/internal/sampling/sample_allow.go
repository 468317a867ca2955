package sampling

import (
	_ "embed"

	"github.com/drafthead/drafthead/hip"
)

//go:embed sample_allow.hip
var allowHIP string

// allow sets the logits of tokens that masks exclude, in place. Bit t mod 32 of word t/32
// of a mask is 1 if token t is allowed.
var allow = hip.NewKernel("sample_allow", source(allowHIP), allowTwin).Block(threads)

type sampleAllowArgs struct {
	Logits  hip.Ptr // [LogitRows, Vocab] float32
	Allowed hip.Ptr // [Masks, Words] uint32
	Rows    hip.Ptr // [Masks] int32: the row of each mask, each once
	Tokens  hip.Ptr // [Vocab] int32: the token of each logit; none: its index

	LogitRows, Masks, Vocab, Words int32

	Excluded float32 // what the logits become: −∞, or 0 for probabilities
	Pad      int32
}

func allowTwin(b *hip.Blocks, a *sampleAllowArgs) {
	masks, vocab, words := int(a.Masks), int(a.Vocab), int(a.Words)
	rows, tokens := hip.In[int32](b, a.Rows, masks), hip.In[int32](b, a.Tokens, vocab)
	parts := partsOf(vocab)
	for block := b.First; block < b.End; block++ {
		mask, first := block/parts, block%parts*part
		allowed := hip.In[uint32](b, a.Allowed.Add(4*int64(mask*words)), words)
		logits := hip.Out[float32](b, a.Logits.Add(4*(int64(rows[mask])*int64(vocab)+int64(first))), min(part, vocab-first))
		for i := range logits {
			token := int32(first + i)
			if tokens != nil {
				token = tokens[token]
			}
			if allowed[token/32]>>(token%32)&1 == 0 {
				logits[i] = a.Excluded
			}
		}
	}
}
