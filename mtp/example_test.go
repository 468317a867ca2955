package mtp_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// tiny is the folder of a small trained model with its head, and of traces of it.
var tiny = filepath.Join("..", "examples", "internal", "m3tiny")

func generate(ctx context.Context, dir string, target *recording) error {
	head, err := mtp.Load(ctx, dir, mtp.Options{}) // or the reasons why not
	if err != nil {
		return err
	}
	defer head.Close()
	cache, err := head.NewCache(64) // pages of sparse_block_size tokens
	if err != nil {
		return err
	}
	seq := cache.NewSequence()
	tokens, hidden := target.prompt() // per position: the token after it, the target's hidden state at it
	for range 4 {
		rows := []mtp.Rows{{Sequence: seq, Position: seq.Len(), Tokens: tokens, Drafts: 4}}
		drafts, err := head.Draft(ctx, &mtp.Batch{Sequences: rows, Hidden: mtp.Hidden{BFloat16: hidden}})
		if err != nil {
			return err
		}
		chosen, states := target.run(seq.Len(), drafts[0].Tokens) // one forward of the target checks them all
		accepted, next, err := mtp.Verify(drafts[0], chosen)
		if err != nil {
			return err
		}
		fmt.Printf("drafted %-8q accepted %d, then %q\n", text(drafts[0].Tokens...), accepted, text(next))
		tokens = append(drafts[0].Tokens[:accepted], next)
		hidden = states[:len(tokens)*head.Config().HiddenSize]
	}
	return nil
}

// Draft along a text, four tokens at a time. The target is a recording of one;
// its tokens are bytes.
func Example() {
	target, err := openRecording(filepath.Join(tiny, "traces", "trace-00.safetensors"))
	if err == nil {
		err = generate(context.Background(), filepath.Join(tiny, "checkpoint"), target)
	}
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// drafted "ing."   accepted 4, then "B"
	// drafted "inar"   accepted 4, then "y"
	// drafted "Mars"   accepted 4, then "h"
	// drafted "aler"   accepted 4, then "]"
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
		texts[text(append(chains[i].Draft.Tokens[:v.Accepted:v.Accepted], v.Next)...)]++
	}
	fmt.Println(texts, err)
	// Output: map[ac:677 b:323] <nil>
}

// recording plays a target: its text and its hidden states are known beforehand.
type recording struct {
	promptLen int
	tokens    []int32  // of the whole text
	hidden    []uint16 // [len(tokens), width] bfloat16, after the final norm
	width     int
}

// prompt returns the token after each position of the prompt, and the hidden
// state at it.
func (r *recording) prompt() (tokens []int32, hidden []uint16) {
	return r.tokens[1 : r.promptLen+1], r.hidden[:r.promptLen*r.width]
}

// run plays a forward from position p on, over the newest token and the drafts
// after it: the token chosen after each, and their hidden states.
func (r *recording) run(p int, drafts []int32) (chosen []int32, hidden []uint16) {
	end := p + len(drafts) + 1
	return r.tokens[p+1 : end+1], r.hidden[p*r.width : end*r.width]
}

func text(tokens ...int32) string {
	var s strings.Builder
	for _, t := range tokens {
		s.WriteByte(byte(t))
	}
	return s.String()
}

func openRecording(path string) (*recording, error) {
	f, err := safetensors.Open(os.DirFS(filepath.Dir(path)), filepath.Base(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := new(recording)
	promptLen, err := readAll[int64](f, "prompt_len")
	if err != nil {
		return nil, err
	}
	tokens, err := readAll[int64](f, "tokens")
	if err != nil {
		return nil, err
	}
	r.promptLen = int(promptLen[0])
	for _, t := range tokens {
		r.tokens = append(r.tokens, int32(t))
	}
	r.hidden, err = readAll[uint16](f, "hidden")
	r.width = len(r.hidden) / len(r.tokens)
	return r, err
}

// readAll returns the values of a tensor that T stands for.
func readAll[T int64 | uint16](f *safetensors.File, name string) ([]T, error) {
	tensor, ok := f.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("%s: no tensor %s", f.Name(), name)
	}
	data := make([]byte, tensor.Size())
	if _, err := tensor.ReadAt(data, 0); err != nil {
		return nil, err
	}
	values := make([]T, len(data)/binary.Size(T(0)))
	_, err := binary.Decode(data, binary.LittleEndian, values)
	return values, err
}

// TestReadmeShowsTheExample: the program in the README is generate, word for word.
func TestReadmeShowsTheExample(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(source), "\nfunc generate(")
	require.True(t, found)
	body, _, found := strings.Cut(rest, "\n}\n")
	require.True(t, found)
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	require.NoError(t, err)
	require.Contains(t, strings.ReplaceAll(string(readme), "\r\n", "\n"), "func generate("+body+"\n}\n")
}
