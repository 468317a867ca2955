package weights

import "strings"

// Problems lists one by one, in their order, the errors that err joins: by errors.Join or
// by [NewPlan], however deep they lie and whatever context was added. An error that reports
// one thing is its own list, with its context. The list is nil for a nil err.
//
// errors.As says what a problem is: a [*safetensors.FormatError], a [*Problem], or a
// type of the package that was called.
func Problems(err error) []error {
	if err == nil {
		return nil
	}
	parts, ok := reportedTogether(err)
	if !ok {
		return []error{err}
	}
	var all []error
	for _, part := range parts {
		all = append(all, Problems(part)...)
	}
	return all
}

// reportedTogether returns the errors that err, or one that it wraps, reports.
func reportedTogether(err error) ([]error, bool) {
	switch e := err.(type) {
	case auditError:
		return e.Unwrap(), true
	case interface{ Unwrap() []error }:
		parts := e.Unwrap()
		return parts, isList(err, parts)
	case interface{ Unwrap() error }:
		return reportedTogether(e.Unwrap())
	}
	return nil, false
}

// isList tells a list of errors from one error of several kinds, which also
// unwraps to several: the message of a list is those of its parts, a line each.
func isList(err error, parts []error) bool {
	messages := make([]string, len(parts))
	for i, part := range parts {
		messages[i] = part.Error()
	}
	return len(parts) > 0 && err.Error() == strings.Join(messages, "\n")
}
