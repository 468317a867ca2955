// Package m3tiny is a small trained model with its MTP head, and traces of it, embedded: a
// byte-level model of the MiniMax-M3 architecture, trained on Go source text. It is what
// the example programs and tests draft with, and what a program can be tried on that has no
// target yet: see [Target]. README.md says where the files come from.
package m3tiny

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed checkpoint traces
var files embed.FS

// Checkpoint returns the checkpoint folder, with the target and the head: MXFP8 weights in
// two shards, 9.4 MB.
func Checkpoint() fs.FS { return sub("checkpoint") }

// Traces reads the embedded traces, in the order of their names.
func Traces() ([]*Trace, error) {
	folder := sub("traces")
	names, err := fs.Glob(folder, "*.safetensors")
	if err != nil {
		return nil, err
	}
	model, err := LMHeadHash(Checkpoint())
	if err != nil {
		return nil, err
	}
	traces := make([]*Trace, len(names))
	for i, name := range names {
		if traces[i], err = ReadTrace(folder, name); err != nil {
			return nil, err
		}
		traces[i].LMHead = model
	}
	return traces, nil
}

// sub returns an embedded folder, whose name is a constant of this package.
func sub(name string) fs.FS {
	folder, err := fs.Sub(files, name)
	if err != nil {
		panic(fmt.Sprintf("m3tiny: %v", err))
	}
	return folder
}
