package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

const (
	lmHeadUsage = "`format` of the lm_head that drafts are picked with: int8 or mxfp8, requantized at load, halve\n" +
		"the bytes of bfloat16, mxfp4 halves them again; stored: as it is. The exact one drafts beside\n" +
		"it, to compare"
	vocabUsage = "draft only tokens of a `list`: a file of ids, one a line or a JSON array; or a number N, the N\n" +
		"most frequent tokens of the traces' prompts. They hold nothing of what is drafted, yet begin\n" +
		"the same texts, which flatters: to judge a list for use, count over other text"
)

// lmHeadFormats are the values of -draft-lm-head.
var lmHeadFormats = map[string]weights.Format{"stored": 0, "int8": weights.INT8, "mxfp8": weights.MXFP8, "mxfp4": weights.MXFP4}

// cheaper is what the flags ask drafts to read in place of all of lm_head.
type cheaper struct {
	format string // a key of lmHeadFormats
	vocab  string // a file or a number; "": all tokens
}

func (c *cheaper) wanted() bool { return lmHeadFormats[c.format] != 0 || c.vocab != "" }

// load loads the head once more with a cheaper lm_head. It shares the matrices
// that are the target's own with exact, and must be closed before it.
func (c *cheaper) load(exact *mtp.Head, traces []*m3tiny.Trace, opts mtp.Options, load func(mtp.Options) (*mtp.Head, error)) (*mtp.Head, error) {
	vocabulary, err := c.vocabulary(exact.Config().VocabSize, traces)
	if err != nil {
		return nil, err
	}
	opts.DraftLMHead, opts.DraftVocabulary = lmHeadFormats[c.format], vocabulary
	opts.Embed, opts.LMHead = exact.Matrix("model.embed_tokens.weight"), exact.Matrix("lm_head.weight")
	return load(opts)
}

// vocabulary is the list of tokens; nil: all.
func (c *cheaper) vocabulary(size int, traces []*m3tiny.Trace) ([]int32, error) {
	if c.vocab == "" {
		return nil, nil
	}
	if n, err := strconv.Atoi(c.vocab); err == nil {
		if n > size {
			return nil, cli.WrongUsage("-draft-vocab is %d, want at most %d, the head's vocab_size", n, size)
		}
		return frequent(traces, size, n)
	}
	file, err := os.Open(c.vocab)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	ids, err := readVocabulary(file, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", safetensors.Printable(c.vocab), err)
	}
	return ids, nil
}

// frequent counts over the traces' prompts.
func frequent(traces []*m3tiny.Trace, size, n int) ([]int32, error) {
	counts := make([]int64, size)
	for _, t := range traces {
		for i, token := range t.Tokens[:t.PromptLen] {
			if token < 0 || int(token) >= size {
				return nil, fmt.Errorf("%s: tokens[%d] is %d, want 0 to %d", t.Name, i, token, size-1)
			}
			counts[token]++
		}
	}
	return mostFrequent(counts, n), nil
}

// comparison is how drafts with a cheaper lm_head compare with those of the exact
// one, for -json.
type comparison struct {
	Format      string  `json:"format"`
	Vocabulary  int     `json:"vocabulary"` // tokens that are drafted from
	VocabSize   int     `json:"vocab_size"`
	Bytes       int64   `json:"bytes"`         // of lm_head, read for every draft
	StoredBytes int64   `json:"stored_bytes"`  // of all of it, as stored
	EqualDrafts float64 `json:"equal_drafts"`  // share of those compared: same text so far, same place in the chain
	Compared    int     `json:"compared"`      //
	Exact       figures `json:"exact_lm_head"` // served with the exact one from start to end
}

// compare draws up what was found: out served with head, exactOut with exact. A rank of a
// parallel head counts its own rows of lm_head; it may have none.
func compare(head, exact *mtp.Head, out, exactOut *summary) *comparison {
	c := &comparison{VocabSize: exact.Config().VocabSize, Exact: exactOut.figures}
	if own := head.DraftLMHead(); own != nil {
		c.Format, c.Vocabulary, c.Bytes = own.Formats()[0].String(), own.Rows, own.Bytes()
	}
	if stored := exact.DraftLMHead(); stored != nil {
		c.StoredBytes = stored.Bytes()
	}
	equal := 0
	for _, t := range out.Traces {
		equal, c.Compared = equal+t.equal, c.Compared+t.compared
	}
	c.EqualDrafts = ratio(equal, c.Compared)
	return c
}

// addRank adds the rows of lm_head that another rank has.
func (c *comparison) addRank(other *comparison) {
	c.Format = cmp.Or(c.Format, other.Format)
	c.Vocabulary += other.Vocabulary
	c.Bytes += other.Bytes
	c.StoredBytes += other.StoredBytes
}

// print sets the two heads side by side.
func (c *comparison) print(w io.Writer, with figures) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "\nlm_head for drafts\ttokens\tbytes\tacceptance by position\tmean tokens\t\n")
	row := func(name string, tokens int, bytes int64, f figures) {
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%.3f\t\n", name, tokens, bytes, rates(f.PerPositionAcceptance), f.MeanTokensPerStep)
	}
	row(c.Format, c.Vocabulary, c.Bytes, with)
	row("exact", c.VocabSize, c.StoredBytes, c.Exact)
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%.2f %% of %d drafts are equal; %.1f %% of the bytes are read\n", 100*c.EqualDrafts, c.Compared, 100*ratio(int(c.Bytes), int(c.StoredBytes)))
	return err
}

// check refuses an unknown format.
func (c *cheaper) check() error {
	if _, ok := lmHeadFormats[c.format]; !ok {
		return cli.WrongUsage("-draft-lm-head is %s, want stored, int8, mxfp8 or mxfp4", c.format)
	}
	if n, err := strconv.Atoi(c.vocab); err == nil && n < 1 {
		return cli.WrongUsage("-draft-vocab is %d, want at least 1, or a file", n)
	}
	return nil
}

// mostFrequent returns the n tokens with the highest counts, ascending, for
// [mtp.Options.DraftVocabulary]: counts[t] is how often token t was seen. Lower tokens win
// if counts are equal. A token that was never seen is not taken, so there may be fewer than
// n.
func mostFrequent(counts []int64, n int) []int32 {
	tokens := make([]int32, 0, len(counts))
	for t, seen := range counts {
		if seen > 0 {
			tokens = append(tokens, int32(t))
		}
	}
	slices.SortStableFunc(tokens, func(a, b int32) int { return cmp.Compare(counts[b], counts[a]) })
	tokens = tokens[:max(0, min(n, len(tokens)))]
	slices.Sort(tokens)
	return tokens
}
