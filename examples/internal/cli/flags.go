package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// columns is how wide the text of -h is.
const columns = 80

// Flags returns a program's flags. -h prints the usage and the flags to w. The usage begins
// with a line that says what the program is for, and shows two commands.
func Flags(name, usage string, w io.Writer) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(w)
	flags.Usage = func() {
		w := flags.Output()
		fmt.Fprint(w, usage)
		var defaults strings.Builder
		flags.SetOutput(&defaults)
		flags.PrintDefaults()
		flags.SetOutput(w)
		fmt.Fprint(w, wrapFlags(defaults.String()))
	}
	return flags
}

// wrapFlags breaks the lines of what package flag prints of all flags: "  -name value", then
// lines that begin with a tab, of which a short flag has the first beside its name.
func wrapFlags(defaults string) string {
	var b strings.Builder
	for flag := range strings.SplitSeq("\n"+defaults, "\n  -") {
		if flag = strings.TrimSpace(flag); flag == "" {
			continue
		}
		name, usage, _ := strings.Cut(flag, "\t")
		fmt.Fprintf(&b, "  -%s\n", strings.TrimSpace(name))
		const indent = "      "
		line := indent
		for word := range strings.FieldsSeq(usage) {
			if line != indent && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > columns {
				b.WriteString(line + "\n")
				line = indent
			}
			if line != indent {
				line += " "
			}
			line += word
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// Parse parses flags and arguments in any order and returns the arguments:
// package flag alone stops at the first argument. What follows "--" is never
// taken for a flag. It prints the usage if that is asked for, and one line if a flag is wrong.
func Parse(flags *flag.FlagSet, args []string) (arguments []string, err error) {
	out := flags.Output()
	flags.SetOutput(io.Discard) // package flag prints the usage with every error
	arguments, err = parse(flags, args)
	flags.SetOutput(out)
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.Usage()
	case err != nil:
		Wrong(flags, "%v", err)
	}
	return arguments, err
}

// Wrong prints what is wrong with a program's arguments, in one line that says where to read
// more.
func Wrong(flags *flag.FlagSet, format string, args ...any) {
	wrong(flags.Output(), flags.Name(), fmt.Sprintf(format, args...))
}

func wrong(w io.Writer, program, text string) {
	fmt.Fprintf(w, "%s: %s; run %[1]s -h for its flags\n", program, strings.ReplaceAll(text, "\n", "; "))
}

func parse(flags *flag.FlagSet, args []string) (arguments []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		rest := flags.Args()
		if len(rest) == 0 {
			return arguments, nil
		}
		if parsed := len(args) - len(rest); parsed > 0 && args[parsed-1] == "--" {
			return append(arguments, rest...), nil
		}
		arguments, args = append(arguments, rest[0]), rest[1:]
	}
}

// ErrUsage is matched by what [WrongUsage] returns.
var ErrUsage = errors.New("wrong usage")

// WrongUsage is an error of the command line, which says the flag, its value and what
// is wanted.
func WrongUsage(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

type usageError struct{ error }

func (e usageError) Is(target error) bool { return target == ErrUsage }
func (e usageError) Unwrap() error        { return e.error }

// Modules adds the flag -modules, whose value is Modules of mtp.Options.
func Modules(flags *flag.FlagSet, n *int) {
	flags.IntVar(n, "modules", 0, "load the first `N` MTP modules, whatever config.json says; default: as many as it says")
}

// CheckModules refuses a value of -modules.
func (r *Refused) CheckModules(n int) { r.If(n < 0 || n > 64, "-modules is %d, want 0 to 64", n) }

// Refused collects the values of flags that are wrong, so that all are reported.
type Refused []error

// If adds an error of [WrongUsage] if something is bad.
func (r *Refused) If(bad bool, format string, args ...any) {
	if bad {
		*r = append(*r, WrongUsage(format, args...))
	}
}

// Err joins what was refused; nil if nothing was.
func (r Refused) Err() error { return errors.Join(r...) }
