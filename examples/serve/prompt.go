package main

import (
	"bytes"
	"encoding/json"
	"errors"
)

// prompts are what a request wants continued, as tokens. OpenAI has four forms:
//
//	"text"   ["text", "text"]   [116, 101]   [[116, 101], [120]]
type prompts [][]int32

// byteTokens is the number of tokens of a model whose tokens are bytes.
const byteTokens = 256

func (p *prompts) UnmarshalJSON(data []byte) error {
	*p = nil
	if string(data) == "null" {
		return nil
	}
	var items []json.RawMessage
	if json.Unmarshal(data, &items) != nil {
		items = []json.RawMessage{data} // a string, if it is right
	} else if len(items) > 0 && isNumber(items[0]) {
		items = []json.RawMessage{data} // the tokens of one prompt
	}
	for i, item := range items {
		tokens, err := promptTokens(item)
		if err != nil {
			return refuse("prompt", "prompt %d is %s: %v; want a string, a list of tokens, or a list of either", i, shorten(item), err)
		}
		*p = append(*p, tokens)
	}
	return nil
}

func isNumber(data json.RawMessage) bool {
	var n json.Number
	return json.Unmarshal(data, &n) == nil && data[0] != '"' && string(data) != "null"
}

// promptTokens returns the tokens of one prompt, a string or a list of tokens.
func promptTokens(data json.RawMessage) ([]int32, error) {
	if data[0] == '"' {
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return nil, err
		}
		return tokensOf(text), nil
	}
	var tokens []int32
	if bytes.Contains(data, []byte("null")) || json.Unmarshal(data, &tokens) != nil {
		return nil, errors.New("it is neither a string nor integers")
	}
	return tokens, nil
}

// tokensOf returns the bytes of a text, which are its tokens.
func tokensOf(text string) []int32 {
	tokens := make([]int32, len(text))
	for i := range len(text) {
		tokens[i] = int32(text[i])
	}
	return tokens
}

// len is how many tokens the prompts have together.
func (p prompts) len() (n int) {
	for _, tokens := range p {
		n += len(tokens)
	}
	return n
}

// check refuses prompts that cannot be continued by so many tokens each.
func (p prompts) check(tokens int, l limits) *apiError {
	if len(p) == 0 {
		return refuse("prompt", "prompt is missing or empty, want a string, a list of tokens, or a list of either")
	}
	for i, prompt := range p {
		if len(prompt) == 0 {
			return refuse("prompt", "prompt %d is empty, want at least one token", i)
		}
		if len(prompt) > l.prompt {
			return promptTooLong(i, len(prompt), l.prompt)
		}
		for j, token := range prompt {
			if token < 0 || token >= byteTokens {
				return refuse("prompt", "token %d of prompt %d is %d, want 0 to %d", j, i, token, byteTokens-1)
			}
		}
		if all := len(prompt) + tokens; all > l.positions {
			return tooManyPositions(i, all, l.positions)
		}
	}
	return nil
}
