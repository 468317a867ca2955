package mtp

// Verify is greedy verification of a drafted chain. target[j] is the token that
// the target itself chose after the confirmed text and the first j drafts; it
// has one entry more than drafts. Verify returns how many drafts the target
// confirmed, the longest prefix in which they agree, and the target's own token
// behind them:
//
//	drafts  7 4 9 2
//	target  7 4 1 5 8     accepted 2, next 1
//
// The text grows by accepted + 1 tokens. The error is an [InputError] for a
// target of another length.
func Verify(drafts, target []int32) (accepted int, next int32, err error) {
	if len(target) != len(drafts)+1 {
		return 0, 0, &InputError{Sequence: -1, Field: "len(target)", Got: len(target), Want: "one more than drafts"}
	}
	for accepted < len(drafts) && drafts[accepted] == target[accepted] {
		accepted++
	}
	return accepted, target[accepted], nil
}
