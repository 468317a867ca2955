package hip_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/drafthead/drafthead/hip"
)

func TestInputErrorNamesTheArgument(t *testing.T) {
	rule := errors.New("token id outside of the vocabulary")
	for want, err := range map[string]*hip.InputError{
		"norm: rms: rows is -1, want 0 or more":                                             {Op: "norm: rms", Field: "rows", Got: -1, Want: "0 or more"},
		"mtp: Sequences[2].Position is 7, want 5":                                           {Op: "mtp", Sequence: 3, Field: "Position", Got: 7, Want: "5"},
		"mtp: Sequences[0].Tokens[3] is 9, want 0 to 7: token id outside of the vocabulary": {Op: "mtp", Sequence: 1, Field: "Tokens[3]", Got: 9, Want: "0 to 7", Err: rule},
		"mtp: len(Sequences[0].BlockTable) is 2, want at least 3":                           {Op: "mtp", Sequence: 1, Field: "len(BlockTable)", Got: 2, Want: "at least 3"},
		"mtp: verify: len(chains[1].Logits) is 8, want 16":                                  {Op: "mtp: verify", List: "chains", Sequence: 2, Field: "len(Logits)", Got: 8, Want: "16"},
		"k is 0, want at least 1":                                                           {Field: "k", Got: 0, Want: "at least 1"},
	} {
		assert.EqualError(t, err, want)
		assert.ErrorIs(t, err, hip.ErrInput)
		assert.Equal(t, err.Err != nil, errors.Is(err, rule))
	}
}
