package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// findings says in sentences what the figures show.
func (c *conventions) findings() (found []string) {
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	first := c.Conventions[0]
	others := []struct {
		what   string
		differ func(*convention) bool
	}{
		{"the next chain rule", func(o *convention) bool { return o.Chain != first.Chain }},
		{"the other norm between steps", func(o *convention) bool {
			return o.Chain == first.Chain && o.PostNorm != first.PostNorm && o.Hidden == first.Hidden
		}},
		{"the other hidden states in step 0", func(o *convention) bool {
			return o.Chain == first.Chain && o.PostNorm == first.PostNorm && o.Hidden != first.Hidden
		}},
	}
	for _, other := range others {
		for _, o := range c.Conventions {
			if !other.differ(o) {
				continue
			}
			if o.Difference.ToldApart {
				say("%s, %s: %s tokens a step, told apart", other.what, o, o.Difference)
			} else {
				say("%s, %s: no difference that these traces could show (%s tokens a step)", other.what, o, o.Difference)
			}
			break
		}
	}
	if !c.pre {
		say("the traces have no hidden_pre: hidden states before the target's final norm were not tried")
	}
	if len(c.Mistakes) > 0 {
		if m := c.Mistakes[0]; m.Difference.ToldApart && m.Difference.Mean > 0 {
			say("a mistake is ahead of every rule by %s tokens a step, %s (%s): the traces are written so, most likely", m.Difference, m, m.does())
		}
	}
	for _, r := range c.Recorded {
		if s := r.finding(first); s != "" {
			found = append(found, s)
		}
	}
	for i, e := range c.Explained {
		switch {
		case e.Off > explains:
			say("nothing tried explains the acceptance seen; nearest is %s, off by up to %.2f", e.by, e.Off)
		case i == 0:
			say("the acceptance seen is that of %s%s, within %.2f", e.by, e.by.reason(), e.Off)
		default:
			say("and as near: %s%s, within %.2f", e.by, e.by.reason(), e.Off)
		}
	}
	return found
}

// finding says what made recorded drafts, and whether acceptance shows it too; "" if nothing
// that was tried comes near.
func (r *recording) finding(first *convention) string {
	by := r.Closest.by
	if !r.Reproduced {
		if r.Closest.EqualRows < near || !r.Difference.ToldApart {
			return ""
		}
		return fmt.Sprintf("%s come closest to %s%s: %.1f %% of rows are equal", r.Drafts, by, by.reason(), 100*r.Closest.EqualRows)
	}
	s := fmt.Sprintf("%s were made by %s%s: all %d rows are equal", r.Drafts, by, by.reason(), r.Rows)
	switch {
	case !r.Difference.ToldApart:
		s += fmt.Sprintf(", yet %.1f %% are by %s too", 100*r.Next.EqualRows, r.Next.by)
	case by == first, by.Mistake != "":
	case by.Difference.ToldApart:
		s += ", and acceptance puts another first"
	default:
		s += ", and acceptance cannot tell it from the first: ids can"
	}
	return s
}

// near is the share of equal rows from which recorded drafts may be a rule's, computed in
// another precision.
const near = 0.85

// does says what a convention's mistake is.
func (c *convention) does() string {
	for _, m := range mistakes {
		if m.name == c.Mistake {
			return m.does
		}
	}
	return ""
}

// reason is does in parentheses.
func (c *convention) reason() string {
	if c.Mistake == "" {
		return ""
	}
	return " (" + c.does() + ")"
}

func (d difference) String() string { return fmt.Sprintf("%+.2f ± %.2f", d.Mean, d.High-d.Mean) }

// width is that of the narrowest terminal.
const width = 80

// print writes the tables, in 80 columns.
func (c *conventions) print(w io.Writer) error {
	fmt.Fprintf(w, "%d rules, %d drafts a step, best first (traces: %d)\n\n", len(c.Conventions), c.K, c.traces)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "chain\tnorm\thidden\ttokens\tacceptance by position\tthan the first")
	for _, one := range c.Conventions {
		fmt.Fprintf(table, "%s\t%s\t%s\t%.3f\t%s\t%s\n", one.Chain, one.norm(), one.Hidden, one.MeanTokensPerStep, firstRates(one.PerPositionAcceptance), one.than())
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprint(w, `
norm    between steps: hidden states before or after the module's final norm
hidden  of the target, for step 0: before or after its final norm
tokens  a step, of a serve loop; "than the first" compares a step after every
        token, in pairs, with a 99 % interval from blocks of the traces
=       no difference to the first that these traces could show

the same with a mistake of integrations (norm pre, hidden post)

`)
	table = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "mistake\tchain\ttokens\tacceptance by position\t")
	for _, one := range c.Mistakes {
		fmt.Fprintf(table, "%s\t%s\t%.3f\t%s\t\n", one.Mistake, one.Chain, one.MeanTokensPerStep, firstRates(one.PerPositionAcceptance))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(c.Recorded) > 0 {
		fmt.Fprint(w, "\ndrafts that the traces recorded, and what comes closest\n\n")
		table = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "recorded\tequal rows\tnext best")
		for _, r := range c.Recorded {
			fmt.Fprintf(table, "%s\t%.1f %%\t%.1f %%\n", r.Drafts, 100*r.Closest.EqualRows, 100*r.Next.EqualRows)
			fmt.Fprintf(table, "  %s\t\t\n", r.Closest.by)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w)
	for _, s := range c.Findings {
		if err == nil {
			err = wrap(w, s)
		}
	}
	return err
}

// than is the difference to the first convention in a table.
func (c *convention) than() string {
	switch d := c.Difference; {
	case d == nil:
		return ""
	case d.ToldApart:
		return d.String()
	default:
		return d.String() + " ="
	}
}

// firstRates writes as many rates as a table has room for.
func firstRates(values []float64) string {
	const most = 4
	if len(values) > most {
		return rates(values[:most]) + " …"
	}
	return rates(values)
}

// wrap writes an item of a list, in lines of the width.
func wrap(w io.Writer, text string) error {
	var out strings.Builder
	line := "-"
	for word := range strings.FieldsSeq(text) {
		if len([]rune(line))+1+len([]rune(word)) > width {
			fmt.Fprintln(&out, line)
			line = " "
		}
		line += " " + word
	}
	_, err := fmt.Fprintf(w, "%s%s\n", out.String(), line)
	return err
}
