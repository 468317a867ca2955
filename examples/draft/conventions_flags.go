package main

import (
	"flag"
	"strconv"
	"strings"

	"github.com/drafthead/drafthead/examples/internal/cli"
)

const conventionsUsage = `find out how the checkpoint wants to be fed: draft after every token of the
traces by every rule that they allow (chain, norm between steps, hidden states of step 0
where the traces have hidden_pre) and with the usual mistakes of integrations`

// oneRule are the flags that name one rule, or drafts of another kind.
var oneRule = []string{"chain", "postnorm", "min-prob", "draft-lm-head", "draft-vocab"}

// checkConventions refuses flags that do not go with -conventions, or only with it.
func (s *settings) checkConventions(flags *flag.FlagSet) error {
	var wrong cli.Refused
	wrong.If(s.seen != nil && !s.conventions, "-seen goes with -conventions only")
	wrong.If(len(s.seen) > s.k, "-seen has %d values, want at most %d, the drafts of a step (-k)", len(s.seen), s.k)
	for _, name := range oneRule {
		flags.Visit(func(f *flag.Flag) {
			wrong.If(s.conventions && f.Name == name, "-%s does not go with -conventions, which tries every rule", name)
		})
	}
	return wrong.Err()
}

// setSeen reads the value of -seen.
func (s *settings) setSeen(list string) error {
	s.seen = nil
	for field := range strings.SplitSeq(list, ",") {
		rate, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
		if err != nil || !(rate >= 0 && rate <= 1) {
			return cli.WrongUsage("want shares of 0 to 1 with commas between them")
		}
		s.seen = append(s.seen, rate)
	}
	return nil
}
