package safetensors

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// TestOtherKindsOfFiles: what lies under the name of weights or of an index is told by its
// first bytes, with what to do.
func TestOtherKindsOfFiles(t *testing.T) {
	const lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:3185884da5afdf07c9097631740b064604b478956a823f148ecc7f4db9f1ad62\nsize 351144\n"
	for name, c := range map[string]struct {
		data string
		say  []string
		text bool // also in place of an index
	}{
		"pointer":           {lfs, []string{"Git LFS", "git lfs pull"}, true},
		"page":              {"<!DOCTYPE html>\n<html><head><title>401</title></head></html>\n", []string{"HTML", "download it again"}, true},
		"page after spaces": {"\ufeff \r\n<HTML lang=\"en\"><body>", []string{"HTML"}, true},
		"short page":        {"<html>", []string{"HTML"}, true},
		"error of a store":  {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", []string{"XML"}, true},
		"GGUF":              {"GGUF\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00", []string{"GGUF", "original checkpoint"}, true},
		"zip":               {"PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00\x00\x00", []string{"zip", "PyTorch", "convert"}, true},
		"pickle":            {"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8", []string{"pickle", "PyTorch"}, true},
		"gzip, small time":  {"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + strings.Repeat("\xfe", 600_000), []string{"compressed", "unpack"}, true},
		"zeros":             {strings.Repeat("\x00", 4096), []string{"zeros"}, false},
		"JSON":              {`{"error": "Repository not found"}`, []string{"JSON text"}, false},
		"text":              {"Access to model x is restricted.\x1b[2J", []string{`text that begins with "Access to model`, `\x1b`}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(fstest.MapFS{"m.safetensors": {Data: []byte(c.data)}}, "m.safetensors")
			errs := []error{err}
			if c.text {
				_, err = readIndex(fstest.MapFS{indexName: {Data: []byte(c.data)}})
				errs = append(errs, err)
			}
			for _, err := range errs {
				require.ErrorIs(t, err, ruleOtherKind)
				require.ErrorContains(t, err, "safetensors: m")
				for _, say := range c.say {
					require.ErrorContains(t, err, say)
				}
			}
		})
	}
	_, err := Open(fstest.MapFS{"m": {Data: []byte("{\x00\x00\x00\x00\x00\x00\x00" + strings.Repeat(" ", 0x7b))}}, "m")
	require.ErrorIs(t, err, ruleNotObject, "a length that is a brace makes no JSON text")
}
