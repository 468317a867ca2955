package safetensors

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind is a kind of file that is found in place of weights, an index or a config.
type kind struct {
	starts []string // of its first bytes
	what   string
	want   string
}

// kindBytes is how much of a file tells its kind.
const kindBytes = 512

// kinds are told by their first bytes, byte for byte.
var kinds = []kind{
	{[]string{"version https://git-lfs.github.com/", "version https://hawser.github.com/"}, "a pointer of Git LFS in place of the file", "the file itself: run git lfs pull, or download it"},
	{[]string{"GGUF", "ggml", "ggjt", "tjgg", "lmgg"}, "a GGUF file", "the original checkpoint in safetensors files"},
	{[]string{"PK\x03\x04", "PK\x05\x06", "PK\x07\x08"}, "a zip file, as PyTorch saves weights", "a safetensors file: convert it, or download the checkpoint's safetensors files"},
	{[]string{"\x80\x02", "\x80\x03", "\x80\x04", "\x80\x05"}, "a Python pickle, as PyTorch saves weights", "a safetensors file: convert it, or download the checkpoint's safetensors files"},
	{[]string{"\x89HDF\r\n"}, "an HDF5 file", "a safetensors file"},
	{[]string{"\x93NUMPY"}, "a NumPy file", "a safetensors file"},
	{[]string{"\x1f\x8b", "\xfd7zXZ\x00", "(\xb5/\xfd", "BZh", "7z\xbc\xaf\x27\x1c"}, "a compressed file", "the file in it: unpack it"},
}

// pages are told by the first tag, in capitals or not, after white space.
var pages = []kind{
	{[]string{"<!doctype html", "<html", "<head", "<body", "<title", "<script", "<meta", "<!--"}, "an HTML page", "the file itself: download it again, and log in if the page asks for that"},
	{[]string{"<?xml", "<error", "<!doctype"}, "an XML page", "the file itself: download it again, and log in if the page asks for that"},
}

// kindOf returns the kind of the file that begins with first; nil if it is none of those
// that are known.
func kindOf(first []byte) *kind {
	if k := startingWith(kinds, first); k != nil {
		return k
	}
	page := bytes.TrimLeft(bytes.TrimPrefix(first, []byte("\ufeff")), " \t\r\n")
	return startingWith(pages, bytes.ToLower(page[:min(len(page), 64)]))
}

func startingWith(kinds []kind, first []byte) *kind {
	for i := range kinds {
		for _, start := range kinds[i].starts {
			if bytes.HasPrefix(first, []byte(start)) {
				return &kinds[i]
			}
		}
	}
	return nil
}

// kindOfWeights is kindOf for a file whose header cannot be one: text and zeros are told
// too.
func kindOfWeights(first []byte) *kind {
	if k := kindOf(first); k != nil || len(first) < headerLengthSize {
		return k
	}
	const again = "a safetensors file: download it again"
	if len(first) >= 64 && len(bytes.Trim(first, "\x00")) == 0 {
		return &kind{what: "zeros, as a download leaves them that did not end", want: again}
	}
	strange := func(c rune) bool {
		return c == utf8.RuneError || !unicode.IsPrint(c) && !unicode.IsSpace(c) && c != '\ufeff'
	}
	switch text := string(bytes.TrimLeft(first, "\ufeff \t\r\n")); {
	case strings.ContainsFunc(string(first[:headerLengthSize]), strange):
	case strings.HasPrefix(text, "{"):
		return &kind{what: "JSON text", want: again}
	default:
		return &kind{what: fmt.Sprintf("text that begins with %q", first[:min(len(first), 40)]), want: again}
	}
	return nil
}

func (k *kind) error(file string) *FormatError {
	return &FormatError{File: file, Rule: ruleOtherKind, Got: k.what, Want: k.want}
}

// orKind returns the kind of a file whose header is not one, if that is known, in place of
// what is wrong with the header.
func (f *File) orKind(err error) error {
	e, ok := err.(*FormatError)
	if !ok {
		return err
	}
	switch e.Rule {
	case ruleFileTooSmall, ruleHeaderTooLarge, ruleHeaderTruncated, ruleNotUTF8, ruleNotJSON, ruleNotObject:
	default:
		return err
	}
	if e.Tensor != "" {
		return err
	}
	first := make([]byte, max(0, min(f.size, kindBytes)))
	if len(first) == 0 || f.readAt(first, 0) != nil {
		return err
	}
	if k := kindOfWeights(first); k != nil {
		return k.error(f.name)
	}
	return err
}
