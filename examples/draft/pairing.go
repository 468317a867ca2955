package main

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/drafthead/drafthead/examples/m3tiny"
)

// checkPairing refuses traces that name another model than the checkpoint's.
func checkPairing(checkpoint fs.FS, traces []*m3tiny.Trace) error {
	own := ""
	for _, t := range traces {
		if t.LMHead == "" {
			continue
		}
		if own == "" {
			var err error
			if own, err = m3tiny.LMHeadHash(checkpoint); err != nil {
				return nil // loading it says what is wrong
			}
		}
		if t.LMHead != own {
			return fmt.Errorf("%s is a trace of another model than the checkpoint: its lm_head is %s, the checkpoint's %s", t.Name, t.LMHead, own)
		}
	}
	return nil
}

// folder returns the checkpoint's files.
func (s *settings) folder() fs.FS {
	if s.checkpoint == "" {
		return m3tiny.Checkpoint()
	}
	return os.DirFS(s.checkpoint)
}

// Below nearZero of at least enoughDrafts first drafts, a head and a text do not belong
// together: even among 256 tokens chance gives as much.
const (
	nearZero     = 0.05
	enoughDrafts = 20
)

// pairingWarning says what an acceptance near 0 means; "" if it is not near 0.
func pairingWarning(drafted, accepted []int) string {
	if len(drafted) == 0 || drafted[0] < enoughDrafts || ratio(accepted[0], drafted[0]) >= nearZero {
		return ""
	}
	return fmt.Sprintf("%d of %d first drafts are accepted: the traces are of another model than the checkpoint, most likely, or hold hidden states of another place", accepted[0], drafted[0])
}
