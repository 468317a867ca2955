package main

import (
	"errors"

	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// problem is one reason why a checkpoint does not load.
type problem struct {
	// Tensor is the tensor concerned, or the dotted key of config.json; empty
	// for a problem of a file or of the folder.
	Tensor string `json:"tensor"`
	// Problem is the whole message, with the tensor's name.
	Problem string `json:"problem"`
}

// problemsOf lists what an error of [mtp.Inspect] reports; nothing for nil.
func problemsOf(err error) []problem {
	list := []problem{}
	for _, p := range weights.Problems(err) {
		list = append(list, problem{tensorOf(p), p.Error()})
	}
	return list
}

// tensorOf is the Tensor of a problem.
func tensorOf(err error) string {
	if e, ok := errors.AsType[*mtp.InputError](err); ok && errors.Is(err, mtp.ErrConfig) {
		return e.Field
	}
	switch e := err.(type) {
	case *safetensors.FormatError:
		return e.Tensor
	case *weights.Problem:
		return e.Tensor
	}
	return ""
}
