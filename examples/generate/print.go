package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/drafthead/drafthead/examples/internal/cli"
)

// printer shows samples: as JSON, as text alone in a pipe, or colored on a terminal.
type printer struct {
	settings       *settings
	stdout, stderr io.Writer
	colored        bool
	shown          int // bytes of the only sample that a terminal has seen, with its prompt
}

func newPrinter(s *settings, stdout, stderr io.Writer) *printer {
	file, ok := stdout.(*os.File)
	return &printer{settings: s, stdout: stdout, stderr: stderr, colored: !s.asJSON && ok && term.IsTerminal(int(file.Fd()))}
}

const (
	green = "\x1b[32m"
	plain = "\x1b[0m"
)

// progress shows a single sample on a terminal while it is written.
func (p *printer) progress(samples []*sample) error {
	if !p.colored || len(samples) > 1 {
		return nil
	}
	return p.show(samples[0])
}

// bar returns a bar for samples that are not shown while they are written.
func (p *printer) bar(samples int) (update func(done, total int64), done func()) {
	if p.colored && samples == 1 {
		return func(done, total int64) {}, func() {}
	}
	return cli.Progress(p.stderr, "write", "bytes")
}

// abort ends the line of a sample that is not complete, and its color.
func (p *printer) abort() error {
	if p.shown == 0 {
		return nil
	}
	_, err := fmt.Fprintln(p.stdout, plain)
	return err
}

// show prints what a terminal has not seen of a sample: accepted drafts are green.
func (p *printer) show(s *sample) error {
	var b strings.Builder
	for ; p.shown < len(s.text.Tokens); p.shown++ {
		at := p.shown - s.promptLen
		accepted := at >= 0 && s.text.Accepted[at]
		before := at > 0 && s.text.Accepted[at-1]
		if accepted && !before {
			b.WriteString(green)
		} else if before && !accepted {
			b.WriteString(plain)
		}
		b.WriteString(printable(byte(s.text.Tokens[p.shown])))
	}
	_, err := io.WriteString(p.stdout, b.String())
	return err
}

// printable is a byte as a terminal may have it: control characters would move its cursor.
func printable(c byte) string {
	if c < ' ' && c != '\n' && c != '\t' || c == 0x7f {
		return fmt.Sprintf(`\x%02x`, c)
	}
	return string([]byte{c})
}

// finish prints the samples that were not shown yet, and the summary.
func (p *printer) finish(samples []*sample) error {
	if p.settings.asJSON {
		e := json.NewEncoder(p.stdout)
		e.SetEscapeHTML(false)
		for _, s := range samples {
			if err := e.Encode(s); err != nil {
				return err
			}
		}
		return nil
	}
	for i, s := range samples {
		if len(samples) > 1 {
			fmt.Fprintf(p.stdout, "%s== sample %d, seed %d\n", map[bool]string{true: "\n"}[i > 0], i+1, s.Seed)
		}
		var err error
		if p.colored {
			if err = p.show(s); err == nil {
				_, err = fmt.Fprintln(p.stdout, plain)
			}
			p.shown = 0
		} else if _, err = io.WriteString(p.stdout, s.Prompt+s.Text); err == nil && len(samples) > 1 {
			_, err = fmt.Fprintln(p.stdout)
		}
		if err != nil {
			return err
		}
	}
	if !p.colored {
		_, err := fmt.Fprintln(p.stderr, summary(samples))
		return err
	}
	legend := ""
	if !p.settings.noDraft {
		legend = green + "green" + plain + ": drafts that the target accepted; the rest is its own, a byte a pass\n"
	}
	_, err := fmt.Fprintf(p.stdout, "\n%s%s\n", legend, summary(samples))
	return err
}

// summary is two lines about all samples.
func summary(samples []*sample) string {
	var passes, tokens, drafted, accepted int
	seconds := 0.0
	for _, s := range samples {
		passes, tokens = passes+s.TargetPasses, tokens+len(s.Tokens)
		drafted, accepted = drafted+s.Drafted, accepted+s.Accepted
		seconds = max(seconds, s.Seconds)
	}
	return fmt.Sprintf("%d bytes in %d target passes, %d saved: %.2f bytes a pass\n%d of %d drafts accepted, %.0f bytes/s",
		tokens, passes, tokens-passes, float64(tokens)/float64(passes), accepted, drafted, float64(tokens)/seconds)
}
