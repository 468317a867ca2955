package mtp_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing/fstest"

	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// tiny is the folder of a small trained model with its head, and of traces of it.
var tiny = filepath.Join("..", "examples", "m3tiny")

// Draft along a text, four tokens at a time. The target is a recording of one, whose tokens
// are bytes.
func Example() {
	ctx := context.Background()
	head, err := mtp.LoadFS(ctx, m3tiny.Checkpoint(), mtp.Options{})
	check(err) // every reason why not
	defer head.Close()
	cache, err := head.NewCache(64) // pages of sparse_block_size tokens
	check(err)
	seq := cache.NewSequence()
	target := m3tiny.NewTarget()      // a recording; in its place your engine
	tokens, hidden := target.Prompt() // per position: the token after it, the hidden state at it
	for range 4 {
		rows := []mtp.Rows{{Sequence: seq, Position: seq.Len(), Tokens: tokens, Drafts: 4}}
		batch := &mtp.Batch{Sequences: rows, Hidden: mtp.Hidden{BFloat16: hidden}}
		drafts, err := head.Draft(ctx, batch)
		check(err)
		draft := drafts[0].Tokens
		chosen, states := target.Run(draft) // one forward checks them all
		accepted, next, err := mtp.Verify(drafts[0], chosen)
		check(err)
		fmt.Printf("drafted %q: %d accepted, then %q\n", m3tiny.Text(draft...), accepted, m3tiny.Text(next))
		tokens = append(draft[:accepted], next) // the next rows: what is confirmed
		hidden = states[:len(tokens)*head.Config().HiddenSize]
	}
	// Output:
	// drafted "ing.": 4 accepted, then "B"
	// drafted "inar": 4 accepted, then "y"
	// drafted "Mars": 4 accepted, then "h"
	// drafted "aler": 4 accepted, then "]"
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// What does a checkpoint hold, and would it load?
func ExampleInspect() {
	config, report, err := mtp.Inspect(filepath.Join(tiny, "checkpoint"), mtp.Options{})
	if err != nil {
		fmt.Println(err) // the problems, by tensor
		return
	}
	fmt.Println(config.NumMTPModules, "module,", report.Tensors, "tensors,", report.Parameters, "parameters")
	fmt.Println(report.Formats["MXFP8"]/1000, "kB in MXFP8")
	// Output:
	// 1 module, 80 tensors, 2223496 parameters
	// 2019 kB in MXFP8
}

// What is wrong with a checkpoint, tensor by tensor? Here the config promises a
// second module that the weights do not hold.
func ExampleInspectFS() {
	files := fstest.MapFS{}
	folder, _ := os.ReadDir(filepath.Join(tiny, "checkpoint"))
	for _, file := range folder {
		data, _ := os.ReadFile(filepath.Join(tiny, "checkpoint", file.Name()))
		files[file.Name()] = &fstest.MapFile{Data: data}
	}
	config := files["config.json"]
	promise := strings.NewReplacer(`"num_mtp_modules": 1`, `"num_mtp_modules": 2`, `"num_nextn_predict_layers": 1`, `"num_nextn_predict_layers": 2`)
	config.Data = []byte(promise.Replace(string(config.Data)))

	_, _, err := mtp.InspectFS(files, mtp.Options{})
	for _, problem := range weights.Problems(err) {
		if p, ok := errors.AsType[*weights.Problem](problem); ok {
			fmt.Println(p.Tensor, "-", p.Rule)
			fmt.Println(strings.ReplaceAll(p.Note, "; ", "\n"))
		}
	}
	// Output:
	// language_model.model.mtp.layers.1. - no tensor of the MTP layer
	// Failed to load MTP layer 1 weights from checkpoint. What is there: the files hold module 0
	// Options.Modules 1 (-modules 1) loads the first 1
}

// How many of the drafts did the target confirm?
func ExampleVerify() {
	drafts := mtp.Draft{Tokens: []int32{7, 4, 9, 2}}
	chosen := []int32{7, 4, 1, 5, 8} // by the target, after each prefix of the drafts
	accepted, next, err := mtp.Verify(drafts, chosen)
	fmt.Println(accepted, next, err)
	// Output: 2 1 <nil>
}

// Which drafts does a target confirm that samples? Its text has its own distribution,
// whatever is drafted: here 0.7 for "a" and 0.3 for "b", drafted "a" each time.
func ExampleHead_VerifySampled() {
	head, err := mtp.Load(context.Background(), filepath.Join(tiny, "checkpoint"), mtp.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer head.Close()
	vocab := head.Config().VocabSize
	probabilities := make([]float32, 2*vocab) // after the text, and after the draft
	probabilities['a'], probabilities['b'], probabilities[vocab+'c'] = 0.7, 0.3, 1

	chains := make([]mtp.Verification, 1000)
	for i := range chains {
		chains[i] = mtp.Verification{
			Draft: mtp.Draft{Tokens: []int32{'a'}}, Position: 12, Sampling: mtp.Sampling{Seed: 1, Stream: uint64(i)},
			Logits: probabilities, Probabilities: true,
		}
	}
	verified, err := head.VerifySampled(context.Background(), chains)
	texts := map[string]int{}
	for i, v := range verified {
		texts[m3tiny.Text(append(chains[i].Draft.Tokens[:v.Accepted:v.Accepted], v.Next)...)]++
	}
	fmt.Println(texts, err)
	// Output: map[ac:677 b:323] <nil>
}
