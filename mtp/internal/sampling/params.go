package sampling

import "unsafe"

// Params says how a row is sampled, as kernels read it.
type Params struct {
	Temperature float64 // 0: the most likely token
	TopP        float64 // from 0 to below 1; 0: all
	MinP        float64
	Least       float64 // the least probability of a draft, at temperature 1
	Seed        uint64
	Stream      uint64
	First       uint32 // position of the chain's first draft in the text
	Index       uint32 // of the draft in the chain
	TopK        int32  // 0: all
	Flags       int32
}

const (
	// FlagProbabilities says that the row has probabilities in place of logits.
	FlagProbabilities = 1
	// FlagGreedy leaves the row as it is: its draft is not drawn.
	FlagGreedy = 2
)

// ParamsWords is how many words AppendParams appends.
const ParamsWords = int(unsafe.Sizeof(Params{}) / 4)

// AppendParams appends the words of p.
func AppendParams(words []int32, p *Params) []int32 {
	return append(words, (*[ParamsWords]int32)(unsafe.Pointer(p))[:]...)
}
