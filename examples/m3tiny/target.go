package m3tiny

import "fmt"

// Target plays a target model: a recording of one text, with the hidden states that the
// model had at it. It stands where an engine runs a forward.
type Target struct {
	text *Trace
	at   int // positions that it has run
}

// NewTarget returns a target that has run its prompt.
func NewTarget() *Target {
	text, err := ReadTrace(sub("traces"), "trace-00.safetensors")
	if err != nil {
		panic(fmt.Sprintf("m3tiny: %v", err)) // the file is embedded, and a test reads it
	}
	return &Target{text, text.PromptLen}
}

// Prompt returns the token after each position of the prompt, the last one the target's own,
// and the hidden states of these positions, [len(tokens), 256] bfloat16.
func (t *Target) Prompt() (tokens []int32, hidden []uint16) {
	n := t.text.PromptLen
	return t.text.Tokens[1 : n+1], t.text.Hidden[:n*t.text.Width]
}

// Run plays one forward over the newest token and the drafts after it. It returns the token
// that the target chooses after each of them, and their hidden states. The next forward
// begins after the drafts that were right and the target's own token. At the end of the
// text there are fewer choices, in the end none.
func (t *Target) Run(drafts []int32) (chosen []int32, hidden []uint16) {
	from := t.at
	end := min(from+len(drafts)+1, len(t.text.Tokens)-1)
	if from >= end {
		return nil, nil
	}
	chosen = t.text.Tokens[from+1 : end+1]
	for t.at++; t.at < end && drafts[t.at-from-1] == chosen[t.at-from-1]; t.at++ {
	}
	return chosen, t.text.Hidden[from*t.text.Width : end*t.text.Width]
}

// Text returns tokens as text: each is a byte.
func Text(tokens ...int32) string {
	text := make([]byte, len(tokens))
	for i, t := range tokens {
		text[i] = byte(t)
	}
	return string(text)
}
