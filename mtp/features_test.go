package mtp_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
)

// cell is one cell of the table of features and rules in Chain's doc: a head of the
// chain, what the float64 head says to two texts, and whether rows are given again. Text 1
// begins with shared rows of text 0.
type cell struct {
	testing.TB
	c     chainCase
	again bool
	head  *mtp.Head
	truth *truth
}

const cellRows, cellDrafts = 17, 4

// newCell loads the head. truths are those of cells before, by case.
func newCell(t testing.TB, c chainCase, again bool, truths map[string]*truth) *cell {
	files := synthetic{modules: c.modules, seed: 3}.files(t)
	options := c.options()
	options.DraftVocabulary = c.vocabulary
	if truths[c.name] == nil {
		truths[c.name] = newTruth(oracle(t, files), c, 900, 2, cellRows)
	}
	return &cell{TB: t, c: c, again: again, head: load(t, files, options), truth: truths[c.name]}
}

// shared is how many tokens the two texts begin with.
func (f *cell) shared() int { return f.truth.common(0, 1) + 1 }

// lag is how many rows are given again.
func (f *cell) lag() int {
	if f.again {
		return f.c.maxDraft - 1
	}
	return 0
}

// rows are those of a text up to end that s, which Draft alone has changed, must be given.
func (f *cell) rows(s *mtp.Sequence, text, end int) *mtp.Batch {
	require.Equal(f, s.Len(), s.Resume())
	return f.truth.passages[text].batch(s, s.Len(), end)
}

// draft gives s rows of a text up to end, and compares what it drafts.
func (f *cell) draft(s *mtp.Sequence, text, end, k int) {
	f.Helper()
	f.require(draft(f, f.head, f.rows(s, text, end), k)[0], text, end, k)
}

// resume is draft for a sequence that was changed. If it must be given rows again, fewer are
// refused. What the next call needs is carried then.
func (f *cell) resume(s *mtp.Sequence, text, end, k int) {
	f.Helper()
	x := &f.truth.passages[text]
	if f.again {
		require.Less(f, s.Resume(), s.Len())
		_, err := draftOf(f.Context(), f.head, x.batch(s, s.Len(), end), 1)
		require.ErrorIs(f, err, mtp.ErrInput)
		require.ErrorContains(f, err, fmt.Sprintf("want at most %d", s.Resume()))
	} else {
		require.Equal(f, s.Len(), s.Resume())
	}
	f.require(draft(f, f.head, x.batch(s, s.Resume(), end), k)[0], text, end, k)
	require.Equal(f, end, s.Resume())
}

// withEmbeds gives a batch the embeddings of its tokens in their place.
func (f *cell) withEmbeds(b *mtp.Batch) *mtp.Batch {
	rows := &b.Sequences[0]
	embeds, err := f.head.Embed(f.Context(), rows.Tokens)
	require.NoError(f, err)
	b.Embeds.Float32, rows.Tokens = embeds, make([]int32, len(rows.Tokens)) // which are not read
	return b
}

// draftEmbeds is draft for rows from where s resumes on, with embeddings.
func (f *cell) draftEmbeds(s *mtp.Sequence, text, end int) {
	f.Helper()
	b := f.withEmbeds(f.truth.passages[text].batch(s, s.Resume(), end))
	f.require(draft(f, f.head, b, cellDrafts)[0], text, end, cellDrafts)
}

// require compares a draft with the k tokens that the float64 head drafts after rows of a text.
func (f *cell) require(got mtp.Draft, text, rows, k int) {
	f.Helper()
	want, err := f.truth.chain(text, rows, cellDrafts)
	require.NoError(f, err)
	require.NoError(f, got.Err)
	require.Equal(f, fmt.Sprint(want.ids[:k]), fmt.Sprint(got.Tokens), "text %d, %d rows, margins %.2g", text, rows, want.margins)
	for i, p := range got.Probs {
		require.InDelta(f, want.probs[i], p, 2e-5, "text %d, %d rows, draft %d", text, rows, i)
	}
}

// features are the rows of the table.
var features = map[string]func(f *cell){
	"Sequence": func(f *cell) {
		s := newCache(f, f.head, 12).NewSequence()
		for i, end := range []int{1, 2, 6, 9, cellRows} {
			f.draft(s, 0, end, cellDrafts-i%2)
		}
	},
	"BlockTable": func(f *cell) {
		cache := newCache(f, f.head, 14)
		tables := [][]int32{{9, 3, 7, 1, 0, 11}, {2, 13, 4, 5, 12, 6}}
		for i, end := range []int{2, 7, 8, 12, cellRows} {
			from := []int{0, 2, 7, 8, 12}[i]
			b := new(mtp.Batch)
			for text, table := range tables {
				rows := f.truth.passages[text].batch(nil, max(0, from-f.lag()), end)
				rows.Sequences[0].BlockTable = table
				b = join(b, rows)
			}
			b.Cache = cache
			for text, d := range draft(f, f.head, b, cellDrafts) {
				f.require(d, text, end, cellDrafts)
			}
		}
		if f.again {
			b := f.truth.passages[0].batch(nil, 8, 8+f.lag())
			b.Sequences[0].BlockTable, b.Cache = tables[0], cache
			_, err := draftOf(f.Context(), f.head, b, 1)
			require.EqualError(f, err, fmt.Sprintf(
				"mtp: Sequences[0].Position is 8, of %d rows, want at position 7 or before: a BlockTable brings %[1]d rows again before a new one", f.lag()))
		}
	},
	"prompt in pieces": func(f *cell) {
		s := newCache(f, f.head, 12).NewSequence()
		for _, end := range []int{1, 5, 11, 12} {
			draft(f, f.head, f.rows(s, 0, end), 0)
		}
		f.draft(s, 0, cellRows, cellDrafts)
	},
	"Drafts of each sequence": func(f *cell) {
		cache, lengths := newCache(f, f.head, 40), []int{3, 0, 1, 4}
		var sequences []*mtp.Sequence
		for range lengths {
			sequences = append(sequences, cache.NewSequence())
		}
		for round := range 2 {
			b := new(mtp.Batch)
			for i, k := range lengths {
				b = join(b, withDrafts(f.rows(sequences[i], i%2, 7+i+4*round), k))
			}
			drafts, err := f.head.Draft(f.Context(), b)
			require.NoError(f, err)
			for i, d := range drafts {
				f.require(d, i%2, 7+i+4*round, lengths[i])
			}
		}
	},
	"Drafts 0": func(f *cell) {
		s := newCache(f, f.head, 12).NewSequence()
		f.draft(s, 0, 6, cellDrafts)
		require.Equal(f, drafted{{}}, draft(f, f.head, f.rows(s, 0, 7), 0))
		require.Equal(f, drafted{{}}, draft(f, f.head, f.rows(s, 0, 10), 0))
		f.draft(s, 0, 11, cellDrafts)
	},
	"MinProbability": func(f *cell) {
		cache := newCache(f, f.head, 24)
		a, b := cache.NewSequence(), cache.NewSequence()
		for _, end := range []int{8, 10, cellRows} {
			both := join(f.rows(a, 0, end), f.rows(b, 1, end))
			want, err := f.truth.chain(0, end, cellDrafts)
			require.NoError(f, err)
			least := float64(want.probs[2]) + 1e-4
			both.Sequences[0].MinProbability = least
			n := 0
			for n < cellDrafts && float64(want.probs[n]) >= least {
				n++
			}
			drafts := draft(f, f.head, both, cellDrafts)
			f.require(drafts[0], 0, end, n)
			f.require(drafts[1], 1, end, cellDrafts)
		}
	},
	"Sampling": func(f *cell) {
		cache := newCache(f, f.head, 24)
		s, x, sampling := cache.NewSequence(), &f.truth.passages[0], &mtp.Sampling{Temperature: 2, Seed: 5, Stream: 9}
		drawn := func(b *mtp.Batch) drafted {
			b.Sequences[0].Sampling = sampling
			return draft(f, f.head, b, cellDrafts)
		}
		greedy := 0
		for _, end := range []int{5, 6, 11, cellRows} {
			fresh := cache.NewSequence()
			want, got := drawn(x.batch(fresh, 0, end)), drawn(f.rows(s, 0, end))
			require.NoError(f, fresh.Close())
			require.Len(f, got[0].Tokens, cellDrafts)
			require.Equal(f, want.ids(), got.ids(), "as of a sequence that is given all rows at once")
			likely, err := f.truth.chain(0, end, cellDrafts)
			require.NoError(f, err)
			for i, id := range got[0].Tokens {
				if id == likely.ids[i] {
					greedy++
				}
			}
		}
		require.Less(f, greedy, 12, "of 16 draws")
	},
	"Allowed": func(f *cell) {
		some := f.c
		some.vocabulary = someTokens(6, 13)
		some.name += ", masked"
		want := newTruth(f.truth.head, some, 900, 2, cellRows)
		mask := make([]uint32, (vocabSize+31)/32)
		for _, token := range some.vocabulary {
			mask[token/32] |= 1 << (token % 32)
		}
		s := newCache(f, f.head, 12).NewSequence()
		for _, end := range []int{5, 6, cellRows} {
			b, seen := f.rows(s, 0, end), [][]int32(nil)
			b.Sequences[0].Allowed = func(drafted []int32) []uint32 {
				seen = append(seen, slices.Clone(drafted))
				return mask
			}
			got := draft(f, f.head, b, cellDrafts)[0].Tokens
			chain, err := want.chain(0, end, cellDrafts)
			require.NoError(f, err)
			require.Equal(f, chain.ids, got)
			for i, tokens := range seen {
				require.Equal(f, fmt.Sprint(got[:i]), fmt.Sprint(tokens))
			}
			require.Len(f, seen, cellDrafts)
		}
	},
	"DraftVocabulary": func(f *cell) {
		some := f.c
		some.vocabulary = someTokens(5, 11)
		f = newCell(f, some, f.again, map[string]*truth{})
		s := newCache(f, f.head, 12).NewSequence()
		for _, end := range []int{5, 6, cellRows} {
			f.draft(s, 0, end, cellDrafts)
		}
	},
	"Fork": func(f *cell) {
		cache, n := newCache(f, f.head, 24), f.shared()-1
		a := cache.NewSequence()
		f.draft(a, 0, n, cellDrafts)
		b, err := a.Fork()
		require.NoError(f, err)
		both := draft(f, f.head, join(f.rows(b, 1, n+2), f.rows(a, 0, n+1)), cellDrafts)
		f.require(both[0], 1, n+2, cellDrafts)
		f.require(both[1], 0, n+1, cellDrafts)
		f.draft(a, 0, cellRows, cellDrafts)
		f.draft(b, 1, cellRows, cellDrafts)
	},
	"Truncate": func(f *cell) {
		cache := newCache(f, f.head, 24)
		for _, at := range []int{cellRows - 1, 12, 4, 1} {
			s := cache.NewSequence()
			f.draft(s, 0, cellRows, cellDrafts)
			require.NoError(f, s.Truncate(at))
			f.resume(s, 0, at+1, cellDrafts)
			if at+1 < cellRows {
				f.draft(s, 0, cellRows, cellDrafts)
			}
			require.NoError(f, s.Close())
		}
		s := cache.NewSequence()
		f.draft(s, 0, cellRows, cellDrafts)
		require.NoError(f, s.Truncate(f.shared()-1))
		f.resume(s, 1, f.shared()+1, cellDrafts)
	},
	"Fork and Truncate": func(f *cell) {
		cache, n := newCache(f, f.head, 24), f.shared()
		a := cache.NewSequence()
		f.draft(a, 0, cellRows-2, cellDrafts)
		b, err := a.Fork()
		require.NoError(f, err)
		require.NoError(f, b.Truncate(n-1))
		whole := max(0, n-1-f.lag()) / blockSize // pages of rows before those that b gives
		require.NotZero(f, whole)
		f.resume(b, 1, n+2, cellDrafts)
		require.Equal(f, a.BlockTable()[:whole], b.BlockTable()[:whole], "shared still")
		f.draft(b, 1, cellRows, cellDrafts)
		f.draft(a, 0, cellRows, cellDrafts) // which b has not changed
	},
	"Draft after Forward": func(f *cell) {
		s, x := newCache(f, f.head, 12).NewSequence(), &f.truth.passages[0]
		forward(f, f.head, x.batch(s, 0, 2), 0)
		f.resume(s, 0, 6, cellDrafts)
		forward(f, f.head, x.batch(s, 6, 9), 0)
		forward(f, f.head, x.batch(s, 9, 10), 0)
		f.resume(s, 0, 12, cellDrafts)
		f.draft(s, 0, 13, cellDrafts)
	},
	"WriteTo and ReadSequence": func(f *cell) {
		s, other := newCache(f, f.head, 12).NewSequence(), newCache(f, f.head, 12)
		f.draft(s, 0, 6, cellDrafts)
		for _, end := range []int{9, 10, 14} {
			var bytes bytes.Buffer
			_, err := s.WriteTo(&bytes)
			require.NoError(f, err)
			require.NoError(f, s.Close())
			s, err = other.ReadSequence(&bytes)
			require.NoError(f, err)
			f.draft(s, 0, end, cellDrafts)
		}
	},
	"closed and computed anew": func(f *cell) {
		cache := newCache(f, f.head, 12)
		s := cache.NewSequence()
		f.draft(s, 0, 9, cellDrafts)
		require.NoError(f, s.Close())
		s = cache.NewSequence()
		f.draft(s, 0, 12, cellDrafts)
	},
	"Embeds": func(f *cell) {
		cache := newCache(f, f.head, 24)
		a := cache.NewSequence()
		f.draftEmbeds(a, 0, 5)
		f.draft(a, 0, 6, cellDrafts) // tokens between embeddings
		f.draftEmbeds(a, 0, 9)
		b, err := a.Fork()
		require.NoError(f, err)
		require.NoError(f, b.Truncate(f.shared()-1))
		f.draftEmbeds(b, 1, f.shared()+1)
		f.draftEmbeds(b, 1, cellRows)
		f.draftEmbeds(a, 0, cellRows)
		tables := newCache(f, f.head, 6)
		for i, end := range []int{3, 9, cellRows} {
			rows := f.truth.passages[0].batch(nil, max(0, []int{0, 3, 9}[i]-(f.c.steps()-1)), end)
			rows.Sequences[0].BlockTable, rows.Cache = []int32{3, 0, 5, 1, 4, 2}, tables
			f.require(draft(f, f.head, f.withEmbeds(rows), cellDrafts)[0], 0, end, cellDrafts)
		}
	},
}

// TestEveryFeatureWithEveryChain walks the table of Chain's doc cell by cell, over
// every way to draft by the rule, and compares each draft with the float64 head's.
func TestEveryFeatureWithEveryChain(t *testing.T) {
	doc, err := os.ReadFile("chain_rule.go")
	require.NoError(t, err)
	lines := strings.Split(string(doc), "\n")
	row := 0
	for !strings.Contains(lines[row], "chain_mod_own") {
		row++
	}
	columns := regexp.MustCompile(` {2,}`)
	rules := columns.Split(strings.TrimSpace(strings.TrimPrefix(lines[row], "//")), -1)
	tested := map[string]bool{}
	for _, c := range chainCases {
		tested[string(c.resolved())] = true
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(tested)), rules)
	seen, truths := 0, map[string]*truth{}
	for row++; lines[row] != "//"; row++ {
		cells := columns.Split(strings.TrimSpace(strings.TrimPrefix(lines[row], "//")), -1)
		require.Len(t, cells, 1+len(rules), lines[row])
		feature := features[cells[0]]
		require.NotNil(t, feature, cells[0])
		seen++
		for i, rule := range rules {
			for _, c := range chainCases {
				if string(c.resolved()) != rule {
					continue
				}
				t.Run(cells[0]+"/"+c.name, func(t *testing.T) {
					switch cells[1+i] {
					case "yes":
						feature(newCell(t, c, false, truths))
					case "again":
						feature(newCell(t, c, true, truths))
					default:
						t.Fatal(cells[1+i])
					}
				})
			}
		}
	}
	require.Len(t, features, seen)
}
