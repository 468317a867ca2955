package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
)

func TestReadVocabulary(t *testing.T) {
	for text, want := range map[string][]int32{
		"7":                       {7},
		"3\n1\n2\n":               {3, 1, 2},
		"\n\r\n 3 \r\n\t1\n\n2\n": {3, 1, 2},
		"47":                      {47},
		"[7]":                     {7},
		" \n[ 3,\n1, 2 ]\n":       {3, 1, 2},
		"+5":                      {5},
		"007":                     {7},
	} {
		got, err := readVocabulary(iotest.OneByteReader(strings.NewReader(text)), 48)
		require.NoError(t, err, "%q", text)
		require.Equal(t, want, got, "%q", text)
	}
}

func TestReadVocabularyRefuses(t *testing.T) {
	for text, c := range map[string]struct {
		line int
		says string
		want error
	}{
		"":                           {0, "text is without tokens, want at least one", nil},
		" \n\n":                      {0, "without tokens", nil},
		"[]":                         {0, "without tokens", nil},
		"1\n2\n48\n4":                {3, "line 3 is 48, want 0 to 47: token id outside of the vocabulary", errToken},
		"1\n-1":                      {2, "is -1", errToken},
		"99999999999999999999":       {1, "outside", errToken},
		"1\n\n\n2\n1":                {5, "is 1 again, want each token once", nil},
		"1\n2 3":                     {2, `is "2 3", want a token id`, nil},
		"1\n2.0":                     {2, `is "2.0"`, nil},
		"the\n":                      {1, `is "the"`, nil},
		strings.Repeat("x", 500):     {1, "...", nil},
		"[1,\n2,\n48]":               {3, "outside", errToken},
		"[1,\n2,\n\n2]":              {4, "is 2 again", nil},
		"[1,\n2.5]":                  {2, `is "2.5"`, nil},
		"[1,\n1e1]":                  {2, `is "1e1"`, nil},
		"[1,\n\"2\"]":                {2, "is 2, want token ids alone", nil},
		"[1,\n[2]]":                  {2, "is [", nil},
		"[1,\nnull]":                 {2, "is <nil>", nil},
		"[1,\n2":                     {2, "the end of the array", nil},
		"[1,\n2\n":                   {3, "the end of the array", nil},
		"[":                          {1, "the end of the array", nil},
		"[1\n2]":                     {2, "a JSON array of token ids", nil},
		"[1]\n2":                     {1, `is "2", want nothing after the array`, nil},
		"[1]]":                       {1, "nothing after the array", nil},
		"{\"a\":\n1}":                {1, `a token id`, nil},
		strings.Repeat(" ", 1<<14):   {0, "over 7168 bytes, want at most 48 token ids", nil},
		strings.Repeat("\x00", 1000): {1, "want a token id", nil},
	} {
		got, err := readVocabulary(strings.NewReader(text), 48)
		require.Nil(t, got)
		require.ErrorIs(t, err, mtp.ErrInput, "%q", text)
		if c.want != nil {
			require.ErrorIs(t, err, c.want)
		}
		input, ok := errors.AsType[*mtp.InputError](err)
		require.True(t, ok)
		field := "text"
		if c.line > 0 {
			field = fmt.Sprintf("line %d", c.line)
		}
		require.Equal(t, field, input.Field, "%q: %v", text, err)
		require.ErrorContains(t, err, c.says, "%q", text)
		require.Less(t, len(err.Error()), 300)
	}
	broken := errors.New("disk fell out")
	_, err := readVocabulary(iotest.ErrReader(broken), 48)
	require.ErrorIs(t, err, broken)
}

// FuzzReadVocabulary: what is accepted can be drafted from.
func FuzzReadVocabulary(f *testing.F) {
	for _, text := range []string{"1\n2", "[1, 2]", "[1,", "{}", "48", "1 1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ids, err := readVocabulary(strings.NewReader(text), 48)
		if err != nil {
			require.ErrorIs(t, err, mtp.ErrInput)
			return
		}
		require.NotEmpty(t, ids)
		seen := map[int32]bool{}
		for _, id := range ids {
			require.True(t, id >= 0 && id < 48 && !seen[id], "%d of %v", id, ids)
			seen[id] = true
		}
	})
}
