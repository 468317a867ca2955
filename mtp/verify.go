package mtp

import "fmt"

// Verify verifies a drafted chain greedily. target[j] is the token that the target chose
// after the confirmed text and the first j drafts; target has one entry more than d.Tokens.
// Verify returns how many drafts the target confirmed, which is the length of the longest
// prefix on which the two agree, and the target's own token after them:
//
//	drafts  7 4 9 2
//	target  7 4 1 5 8     accepted 2, next 1
//
// The text grows by accepted + 1 tokens. A target of another length is an [InputError].
func Verify(d Draft, target []int32) (accepted int, next int32, err error) {
	if len(target) != len(d.Tokens)+1 {
		return 0, 0, refuse("len(target)", len(target), fmt.Sprintf("%d, one more than the draft's tokens", len(d.Tokens)+1), nil)
	}
	for accepted < len(d.Tokens) && d.Tokens[accepted] == target[accepted] {
		accepted++
	}
	return accepted, target[accepted], nil
}
