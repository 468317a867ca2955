package main

import (
	"bytes"
	"context"
	"sync"
	"unicode/utf8"

	"github.com/drafthead/drafthead/examples/internal/speculate"
)

// Reasons why a text ended, as OpenAI and vLLM name them.
const (
	reasonStop   = "stop"   // a stop string
	reasonLength = "length" // max_tokens
	reasonError  = "error"
)

// choice is one text of a request. The scheduler writes it, and the handler of the request
// reads what is certain of it.
type choice struct {
	ctx       context.Context // ends when the client goes away
	text      *speculate.Text // the scheduler's
	promptLen int
	stops     [][]byte
	updated   chan<- struct{} // of the request, with room for one
	started   bool            // once
	written   []byte          // all that was written, the scheduler's

	mu     sync.Mutex
	sure   int    // bytes of written that belong to the answer, whatever follows
	answer []byte // written[:sure]
	tokens int    // that were written, up to the end of a stop string
	reason string // "" while it is under way
	err    error
}

// deliver takes what the engine wrote since the last call, and returns why the text has
// ended, or "". It calls count with that and with how many tokens were written, before
// anybody sees them: who has the answer finds it counted.
func (c *choice) deliver(count func(wrote int, reason string)) (reason string) {
	before := len(c.written)
	for _, t := range c.text.Tokens[c.promptLen+before:] {
		c.written = append(c.written, byte(t))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	from, to, stopped := findStop(c.written, before, c.stops)
	switch {
	case stopped:
		c.sure, c.tokens, c.reason = from, to, reasonStop
	case c.text.Err != nil:
		c.sure, c.tokens, c.reason, c.err = certain(c.written, c.stops), len(c.written), reasonError, c.text.Err
	case c.text.Done():
		c.sure, c.tokens, c.reason = len(c.written), len(c.written), reasonLength
	default:
		c.sure, c.tokens = certain(c.written, c.stops), len(c.written)
	}
	c.answer = c.written[:c.sure:c.sure]
	count(c.tokens-before, c.reason)
	if len(c.written) > before || c.reason != "" {
		c.notify()
	}
	return c.reason
}

// fail ends the choice with an error.
func (c *choice) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reason, c.err = reasonError, err
	c.notify()
}

func (c *choice) notify() {
	select {
	case c.updated <- struct{}{}:
	default: // the handler has not seen the last one
	}
}

// state returns what is certain of the answer, how many tokens were written, and why the
// text ended: "" if it goes on.
func (c *choice) state() (answer []byte, tokens int, reason string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answer, c.tokens, c.reason, c.err
}

// findStop finds the stop string that is complete first in a text, of whose bytes those
// before seen were searched already. Of two that end together it is the longer one. So the
// result does not depend on how many tokens a step brings.
func findStop(text []byte, seen int, stops [][]byte) (from, to int, found bool) {
	for to := seen + 1; to <= len(text); to++ {
		longest := 0
		for _, stop := range stops {
			if len(stop) > longest && bytes.HasSuffix(text[:to], stop) {
				longest = len(stop)
			}
		}
		if longest > 0 {
			return to - longest, to, true
		}
	}
	return 0, 0, false
}

// certain is how much of a text can be sent while it goes on: what may be the beginning of a
// stop string, or of a character in UTF-8, has to wait.
func certain(text []byte, stops [][]byte) int {
	held := 0
	for _, stop := range stops {
		for n := min(len(stop)-1, len(text)); n > held; n-- {
			if bytes.HasSuffix(text, stop[:n]) {
				held = n
			}
		}
	}
	sure := len(text) - held
	for i := sure - 1; i >= max(0, sure-utf8.UTFMax+1); i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRune(text[i:sure]) {
				return i
			}
			break
		}
	}
	return sure
}
