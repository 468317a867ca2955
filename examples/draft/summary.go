package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// summary is what -json prints.
type summary struct {
	Checkpoint string `json:"checkpoint"`
	Device     string `json:"device"`
	K          int    `json:"k"`

	TensorParallel int `json:"tp"`
	ExpertParallel int `json:"ep"`

	Traces []*traceResult `json:"traces"`
	figures
	Warning     string      `json:"warning,omitempty"` // acceptance is near 0
	DraftLMHead *comparison `json:"draft_lm_head,omitempty"`
}

// figures are over all traces.
type figures struct {
	PerPositionAcceptance []float64 `json:"per_position_acceptance"`
	MeanTokensPerStep     float64   `json:"mean_tokens_per_step"`
	TokensPerSecond       float64   `json:"tokens_per_second"`
}

// finish computes the figures over all traces.
func (s *summary) finish() {
	steps, tokens, duration := 0, 0, time.Duration(0)
	drafted, accepted := make([]int, s.K), make([]int, s.K)
	for _, t := range s.Traces {
		steps, tokens, duration = steps+t.Steps, tokens+t.tokens, duration+t.duration
		for j := range s.K {
			drafted[j] += t.draftedAt[j]
			accepted[j] += t.acceptedAt[j]
		}
	}
	s.PerPositionAcceptance = make([]float64, s.K)
	for j := range s.K {
		s.PerPositionAcceptance[j] = ratio(accepted[j], drafted[j])
	}
	s.Warning = pairingWarning(drafted, accepted)
	s.MeanTokensPerStep = ratio(tokens, steps)
	if seconds := duration.Seconds(); seconds > 0 {
		s.TokensPerSecond = float64(tokens) / seconds
	}
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// printSteps shows the first steps of a trace: the drafts beside the text that
// the target wrote, with a stroke where the target disagreed.
func printSteps(w io.Writer, t *traceResult) error {
	fmt.Fprintf(w, "%s, the first %d of %d steps (│ marks where the target disagreed):\n\n", safetensors.Printable(t.Name), len(t.first), t.Steps)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  step\tdrafted\ttarget\taccepted")
	for i, s := range t.first {
		drafted := text(s.drafts[:s.accepted])
		if s.accepted < len(s.drafts) {
			drafted += "│" + text(s.drafts[s.accepted:])
		}
		fmt.Fprintf(table, "  %d\t%s\t%s\t%d of %d\n", i+1, drafted, text(s.target), s.accepted, len(s.drafts))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

// text shows tokens that are bytes, with what does not print escaped; other
// tokens as numbers.
func text(tokens []int32) string {
	var s strings.Builder
	for _, t := range tokens {
		switch {
		case t == ' ':
			s.WriteString("·")
		case t >= 0 && t < 256:
			quoted := fmt.Sprintf("%q", string(rune(t)))
			if t == '"' {
				quoted = `"""`
			}
			s.WriteString(quoted[1 : len(quoted)-1])
		default:
			fmt.Fprintf(&s, "<%d>", t)
		}
	}
	return s.String()
}

// print writes the traces' table and the figures over all of them.
func (s *summary) print(w io.Writer, device string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "trace\tsteps\ttokens\tdrafted\taccepted\trate\tmismatches\t")
	for _, t := range s.Traces {
		differ := "none recorded"
		if t.recorded {
			differ = fmt.Sprint(t.Mismatches)
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%.3f\t%s\t\n", t.Name, t.Steps, t.tokens, t.Drafted, t.Accepted, ratio(t.Accepted, t.Drafted), differ)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nacceptance by position   %s\nmean tokens per step     %.3f\ntokens per second        %.0f on %s\n",
		rates(s.PerPositionAcceptance), s.MeanTokensPerStep, s.TokensPerSecond, device)
	if s.Warning != "" && err == nil {
		_, err = fmt.Fprintf(w, "\nwarning: %s\n", s.Warning)
	}
	if c := s.DraftLMHead; c != nil && err == nil {
		err = c.print(w, s.figures)
	}
	return err
}

func rates(values []float64) string {
	var s []string
	for _, v := range values {
		s = append(s, fmt.Sprintf("%.3f", v))
	}
	return strings.Join(s, " ")
}
