package hip

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// ErrInput is an argument that a call refuses before it runs anything. Every
// [InputError] wraps it.
var ErrInput = errors.New("bad input")

// InputError names an argument that a call refuses. A call that refuses one changes
// nothing. Every package of the library reports bad arguments this way, except
// weights/safetensors, which imports no other package of it.
type InputError struct {
	Op       string // package and call: "attention: insert"
	Sequence int    // 1 + the index in the batch's sequences; 0: the call as a whole
	List     string // what Sequence counts, where that is not Sequences: "chains"
	Field    string // the argument: "Tokens[3]", "rows"
	Got      any
	Want     string // in words: "at least 1"
	Err      error  // the rule that Got breaks, where it has a name; else nil
}

// Error says the call, the argument, what it is and what it should be.
func (e *InputError) Error() string {
	field := e.Field
	if e.Sequence > 0 {
		inner, of := strings.CutPrefix(field, "len(")
		if field = fmt.Sprintf("%s[%d].%s", cmp.Or(e.List, "Sequences"), e.Sequence-1, inner); of {
			field = "len(" + field
		}
	}
	text := fmt.Sprintf("%s is %v, want %s", field, e.Got, e.Want)
	if e.Op != "" {
		text = e.Op + ": " + text
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap makes the error match ErrInput and Err.
func (e *InputError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrInput}
	}
	return []error{ErrInput, e.Err}
}
