package mtp

import "fmt"

// checkDraftVocabulary refuses a list that Draft could not pick from. nil stands for no
// list.
func checkDraftVocabulary(tokens []int32, vocabSize int) error {
	bad := func(i int, want string, err error) error {
		return refuse(fmt.Sprintf("Options.DraftVocabulary[%d]", i), tokens[i], want, err)
	}
	if tokens != nil && len(tokens) == 0 {
		return refuse("Options.DraftVocabulary", "empty", "at least one token, or nil for all", nil)
	}
	first := make(map[int32]int, len(tokens))
	for i, t := range tokens {
		if t < 0 || int(t) >= vocabSize {
			return bad(i, fmt.Sprintf("0 to %d", vocabSize-1), errToken)
		}
		if before, again := first[t]; again {
			return bad(i, fmt.Sprintf("each token once: it is DraftVocabulary[%d] too", before), nil)
		}
		first[t] = i
	}
	return nil
}
