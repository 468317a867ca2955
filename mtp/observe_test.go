package mtp_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
)

// stageNames are the documented ones, in order.
func stageNames(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile("observe.go")
	require.NoError(t, err)
	var names []string
	for _, line := range regexp.MustCompile(`(?m)^//\t([a-z_]+) +\[(?:rows|wanted)`).FindAllStringSubmatch(string(source), -1) {
		names = append(names, line[1])
	}
	return names
}

// clone returns a stage with memory of its own.
func clone(s mtp.Stage) mtp.Stage {
	s.Shape = append([]int(nil), s.Shape...)
	s.Float32 = append([]float32(nil), s.Float32...)
	s.Int32 = append([]int32(nil), s.Int32...)
	return s
}

// TestStagesAreAsDocumented: names, order, rows and shapes, step by step, and memory that
// nobody writes to afterwards. GUIDE.md has the same names.
func TestStagesAreAsDocumented(t *testing.T) {
	names := stageNames(t)
	require.Len(t, names, 23)
	firstWanted := slices.Index(names, "block_scores")
	guide, err := os.ReadFile("GUIDE.md")
	require.NoError(t, err)
	require.Contains(t, strings.Join(strings.Fields(string(guide)), " "), "`"+strings.Join(names, "`, `")+"`")

	const heads, kvHeads, headDim, indexHeads, indexDim, topBlocks, experts, topk = 4, 2, 8, 2, 8, 3, 5, 2
	shapes := func(rows, blocks int) map[string][]int {
		of := func(dims ...int) []int { return append([]int{rows}, dims...) }
		all := map[string][]int{
			"q": of(heads, headDim), "k": of(kvHeads, headDim), "v": of(kvHeads, headDim),
			"index_q": of(indexHeads, indexDim), "index_k": of(indexDim),
			"block_scores": of(indexHeads, blocks), "selected_blocks": of(indexHeads, topBlocks), "attn_ctx": of(heads * headDim),
			"router_scores": of(experts), "expert_ids": of(topk), "expert_weights": of(topk),
		}
		for _, name := range names {
			if all[name] == nil {
				all[name] = of(hiddenSize)
			}
		}
		return all
	}
	x, y := randomPassage(50, 12), randomPassage(51, 12)
	for _, c := range []struct {
		chain                chainCase
		rows, wanted, blocks []int // of the steps of a Draft of 3 tokens after 5 and 2 rows
	}{
		{chainCases[0], []int{7, 2, 2}, []int{2, 2, 2}, []int{2, 2, 2}},
		{chainCases[5], []int{7, 2, 2}, []int{2, 2, 2}, []int{2, 2, 2}},
		{chainCases[7], []int{7, 7, 7, 2}, []int{7, 7, 7, 0}, []int{2, 2, 2, 1}}, // MaxDraft 4; the last commits only
	} {
		t.Run(c.chain.name, func(t *testing.T) {
			head := load(t, synthetic{modules: c.chain.modules}.files(t), c.chain.options())
			cache := newCache(t, head, 16)
			check := func(run func(b *mtp.Batch), rows, wanted, blocks []int) {
				var got, want []mtp.Stage
				b := join(x.batch(cache.NewSequence(), 0, 5), y.batch(cache.NewSequence(), 0, 2))
				b.Observe = func(s mtp.Stage) { got, want = append(got, s), append(want, clone(s)) }
				run(b)
				require.Equal(t, want, got, "kept")
				for step := range rows {
					for i, name := range names {
						n := rows[step]
						if i >= firstWanted {
							if n = wanted[step]; n == 0 {
								break
							}
						}
						require.NotEmpty(t, got, "step %d, %s", step, name)
						s := got[0]
						got = got[1:]
						require.Equal(t, name, s.Name, "step %d", step)
						require.Equal(t, shapes(n, blocks[step])[name], s.Shape, "step %d, %s", step, name)
						if n == rows[step] {
							require.Nil(t, s.Rows)
						} else {
							require.Equal(t, []int32{4, 6}, s.Rows, "the last row of each sequence")
						}
						size := 1
						for _, n := range s.Shape {
							size *= n
						}
						require.Equal(t, size, len(s.Float32)+len(s.Int32))
						require.Equal(t, name == "selected_blocks" || name == "expert_ids", s.Float32 == nil, name)
					}
				}
				require.Empty(t, got)
			}
			check(func(b *mtp.Batch) { forward(t, head, b, 0) }, []int{7}, []int{7}, []int{2})
			check(func(b *mtp.Batch) { draft(t, head, b, 3) }, c.rows, c.wanted, c.blocks)
		})
	}
}

// TestScoresOfWantedRows: a longer sequence that drafts nothing adds no blocks to the scores
// of the others.
func TestScoresOfWantedRows(t *testing.T) {
	x, y := randomPassage(52, 20), randomPassage(53, 3)
	for _, c := range []chainCase{chainCases[0], chainCases[7]} {
		head := load(t, synthetic{modules: c.modules}.files(t), c.options())
		cache := newCache(t, head, 16)
		scores := func(others ...*mtp.Batch) (stages []mtp.Stage) {
			b := join(append(others, withDrafts(y.batch(cache.NewSequence(), 0, 3), 1))...)
			b.Observe = func(s mtp.Stage) {
				if s.Name == "block_scores" {
					stages = append(stages, s)
				}
			}
			_, err := head.Draft(t.Context(), b)
			require.NoError(t, err)
			return stages
		}
		alone, beside := scores(), scores(x.batch(cache.NewSequence(), 0, 20))
		last := len(alone) - 1
		if !c.shifts() {
			require.Equal(t, []int32{22}, beside[last].Rows)
			require.Equal(t, alone[last].Shape, beside[last].Shape)
			require.Equal(t, alone[last].Float32, beside[last].Float32)
		}
		require.Len(t, beside, len(alone), c.name)
	}
}
