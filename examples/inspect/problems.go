package main

import (
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// problem is one reason why a checkpoint does not load.
type problem struct {
	// Tensor is the tensor concerned, or the dotted key of config.json; empty
	// for a problem of a file or of the folder.
	Tensor string `json:"tensor"`
	// Problem is the whole message, with the tensor's name.
	Problem string `json:"problem"`
}

// problemsOf takes an error of [mtp.Inspect] apart, one problem for each of the
// errors that it joins; none for nil.
func problemsOf(err error) []problem {
	list := []problem{}
	switch e := err.(type) {
	case nil:
	case *mtp.ConfigError:
		list = append(list, problem{e.Key, e.Error()})
	case *weights.FormatError:
		list = append(list, problem{e.Tensor, e.Error()})
	case *weights.CheckpointError:
		list = append(list, problem{e.Tensor, e.Error()})
	case *weights.Problem:
		list = append(list, problem{e.Tensor, e.Error()})
	case interface{ Unwrap() []error }: // joined, or an audit
		for _, one := range e.Unwrap() {
			list = append(list, problemsOf(one)...)
		}
	default:
		list = append(list, problem{"", err.Error()})
	}
	return list
}
