package safetensors

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sort"
	"strconv"
)

// findings collects what is wrong with a folder: the first problems of a rule, and the first
// of all that is wrong with its files, and how many more there are.
type findings struct {
	errs  []error
	count map[error]int
	more  int // files
}

// maxBroken is how many problems are listed before those of further files are counted alone.
const maxBroken = 1000

// report adds what is wrong by one rule. It calls problem only where its text is wanted.
func (f *findings) report(rule ruleText, problem func() *FormatError) {
	if f.count == nil {
		f.count = make(map[error]int)
	}
	if f.count[rule]++; f.count[rule] <= maxProblems {
		e := problem()
		e.Rule = rule
		f.errs = append(f.errs, e)
	}
}

// join adds all that is wrong with a file.
func (f *findings) join(err error) {
	if len(f.errs) >= maxBroken {
		f.more++
		return
	}
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		if _, one := err.(*FormatError); !one {
			f.errs = append(f.errs, list.Unwrap()...)
			return
		}
	}
	f.errs = append(f.errs, err)
}

// err joins what was found; nil if nothing was.
func (f *findings) err() error {
	errs := slices.Clip(f.errs)
	if f.more > 0 {
		errs = append(errs, &FormatError{Rule: ruleMoreProblems, Got: strconv.Itoa(f.more) + " more files with problems"})
	}
	for _, rule := range slices.SortedFunc(maps.Keys(f.count), func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) }) {
		if more := f.count[rule] - maxProblems; more > 0 {
			errs = append(errs, &FormatError{Rule: rule, Got: moreOf(more)})
		}
	}
	return errors.Join(errs...)
}

func moreOf(n int) string { return strconv.Itoa(n) + " more" }

// leastList counts names and keeps the first ones by the alphabet, in order.
type leastList struct {
	list []string
	n    int
}

func (l *leastList) add(name string) {
	l.n++
	i := sort.SearchStrings(l.list, name)
	if i == maxProblems {
		return
	}
	if len(l.list) == maxProblems {
		l.list = l.list[:maxProblems-1]
	}
	l.list = slices.Insert(l.list, i, name)
}
