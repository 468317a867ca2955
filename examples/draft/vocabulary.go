package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/drafthead/drafthead/mtp"
)

// readVocabulary reads a list of token ids, for [mtp.Options.DraftVocabulary]: one a line, with
// blank lines anywhere, or a JSON array of numbers. Each must be below vocabSize and be
// there only once. The error is an [mtp.InputError] whose Field is the line, or wraps the error
// of r.
func readVocabulary(r io.Reader, vocabSize int) ([]int32, error) {
	limit := 4096 + 64*int64(max(vocabSize, 0)) // a generous text of all ids
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("vocabulary: %w", err)
	}
	if int64(len(text)) > limit {
		return nil, badVocabulary("text", fmt.Sprintf("over %d bytes", limit), fmt.Sprintf("at most %d token ids", vocabSize), nil)
	}
	v := vocabularyText{text: text, size: vocabSize, seen: make(map[int32]bool)}
	read := v.readLines
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		read = v.readJSON
	}
	if err := read(); err != nil {
		return nil, err
	}
	if len(v.ids) == 0 {
		return nil, badVocabulary("text", "without tokens", "at least one", nil)
	}
	return v.ids, nil
}

// errToken is a token id outside of the vocabulary.
var errToken = errors.New("token id outside of the vocabulary")

func badVocabulary(field, got, want string, err error) error {
	return &mtp.InputError{Op: "vocabulary", Field: field, Got: got, Want: want, Err: err}
}

// vocabularyText is a text whose ids are collected.
type vocabularyText struct {
	text []byte
	size int
	ids  []int32
	seen map[int32]bool
}

// add appends an id whose text ends before the offset.
func (v *vocabularyText) add(id string, end int) error {
	n, err := strconv.ParseInt(id, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || err == nil && (n < 0 || n >= int64(v.size)):
		return v.refuse(end, id, fmt.Sprintf("0 to %d", v.size-1), errToken)
	case err != nil:
		return v.refuse(end, strconv.Quote(id), "a token id", nil)
	case v.seen[int32(n)]:
		return v.refuse(end, id+" again", "each token once", nil)
	}
	v.ids, v.seen[int32(n)] = append(v.ids, int32(n)), true
	return nil
}

// refuse names the line that ends, or goes on, at the offset.
func (v *vocabularyText) refuse(end int, got, want string, err error) error {
	if len(got) > 100 {
		got = got[:100] + "..."
	}
	line := 1 + bytes.Count(v.text[:min(end, len(v.text))], []byte("\n"))
	return badVocabulary(fmt.Sprintf("line %d", line), got, want, err)
}

func (v *vocabularyText) readLines() error {
	end := 0
	for line := range bytes.Lines(v.text) {
		id := strings.TrimSpace(string(line))
		if id != "" {
			if err := v.add(id, end); err != nil {
				return err
			}
		}
		end += len(line)
	}
	return nil
}

func (v *vocabularyText) readJSON() error {
	tokens := json.NewDecoder(bytes.NewReader(v.text))
	tokens.UseNumber()
	for open := false; ; open = true {
		token, err := tokens.Token()
		end := int(tokens.InputOffset())
		number, isNumber := token.(json.Number)
		switch {
		case errors.Is(err, io.EOF):
			return v.refuse(len(v.text), "the end of the text", "the end of the array", nil)
		case err != nil:
			return v.refuse(end, err.Error(), "a JSON array of token ids", nil)
		case !open: // the opening bracket, which was read already
		case isNumber:
			if err := v.add(number.String(), end); err != nil {
				return err
			}
		case token == json.Delim(']'):
			if rest := bytes.TrimSpace(v.text[end:]); len(rest) > 0 {
				return v.refuse(end, strconv.Quote(string(rest)), "nothing after the array", nil)
			}
			return nil
		default:
			return v.refuse(end, fmt.Sprintf("%v", token), "token ids alone", nil)
		}
	}
}
