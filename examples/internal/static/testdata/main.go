// Command static drafts on the CPU and prints the tokens. It imports no GPUs, so it links
// statically and starts in a file system that holds nothing but it and a checkpoint; that
// is what it is for, in tests.
//
//	static CHECKPOINT
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

func main() {
	drafts, err := draft(context.Background(), os.Args[len(os.Args)-1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(drafts)
	_, err = hip.Open(0)
	fmt.Println(err)
}

// draft returns what the head drafts from hidden states of zeros.
func draft(ctx context.Context, checkpoint string) (tokens []int32, err error) {
	head, err := mtp.Load(ctx, checkpoint, mtp.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, head.Close()) }()
	cache, err := head.NewCache(2)
	if err != nil {
		return nil, err
	}
	drafts, err := head.Draft(ctx, &mtp.Batch{
		Sequences: []mtp.Rows{{Sequence: cache.NewSequence(), Tokens: []int32{1, 2, 3}, Drafts: 4}},
		Hidden:    mtp.Hidden{Float32: make([]float32, 3*head.Config().HiddenSize)},
	})
	if err != nil {
		return nil, err
	}
	return drafts[0].Tokens, nil
}
