package main

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/mtp"
)

// recording says which convention or mistake made drafts that the traces hold.
type recording struct {
	Drafts  string `json:"drafts"` // the tensor's name
	Rows    int    `json:"rows"`   // that were recorded
	Closest made   `json:"closest"`
	Next    *made  `json:"next,omitempty"`

	// Reproduced: the closest makes all of them, but for near ties.
	Reproduced bool `json:"reproduced"`
	// Difference is in the share of equal rows, the closest less the next.
	Difference *difference `json:"difference,omitempty"`
}

// made is how near a convention's drafts come to the recorded ones.
type made struct {
	Chain    mtp.Chain `json:"chain"`
	PostNorm bool      `json:"post_norm"`
	Hidden   string    `json:"hidden"`
	Mistake  string    `json:"mistake,omitempty"`

	Equal     []float64 `json:"equal"`      // share of equal drafts, by position in the chain
	EqualRows float64   `json:"equal_rows"` // share of rows with all drafts equal, to the first near tie

	by   *convention
	rows [][]float64 // by trace and recorded row: 1 or 0
}

// recordings compares what the traces recorded with what was drafted.
func (c *conventions) recordings(traces []*m3tiny.Trace) []*recording {
	names := map[m3tiny.Variant]bool{}
	for _, t := range traces {
		for v := range t.Drafts {
			names[v] = true
		}
	}
	var out []*recording
	for _, v := range slices.Sorted(maps.Keys(names)) {
		var all []*made
		for _, one := range c.all() {
			all = append(all, one.against(v, traces, c.K))
		}
		slices.SortStableFunc(all, func(a, b *made) int {
			return cmp.Or(cmp.Compare(b.EqualRows, a.EqualRows), cmp.Compare(sum64(b.Equal), sum64(a.Equal)))
		})
		r := &recording{Drafts: "drafts" + string(v), Closest: *all[0], Next: all[1], Reproduced: all[0].EqualRows == 1}
		for _, rows := range r.Closest.rows {
			r.Rows += len(rows)
		}
		if r.Rows == 0 {
			continue
		}
		d := paired(r.Closest.rows, r.Next.rows)
		r.Difference = &d
		out = append(out, r)
	}
	return out
}

// against compares a convention's drafts with recorded ones. A row that
// differs at a near tie of the recording counts as equal: the chain is fed differently from
// there on.
func (c *convention) against(v m3tiny.Variant, traces []*m3tiny.Trace, k int) *made {
	m := &made{Chain: c.Chain, PostNorm: c.PostNorm, Hidden: c.Hidden, Mistake: c.Mistake, by: c}
	equal, compared := make([]int, k), make([]int, k)
	rows, equalRows := 0, 0
	for i, t := range traces {
		of := []float64{}
		recorded := t.Drafts[v]
		for at, drafts := range c.drafts[i] {
			n := t.PromptLen + at
			if recorded == nil || recorded.K == 0 || recorded.IDs[n*recorded.K] < 0 {
				continue
			}
			for j := range min(k, recorded.K) {
				compared[j]++
				if drafts[j] == recorded.IDs[n*recorded.K+j] {
					equal[j]++
				}
			}
			same := 1 - mismatches(drafts, recorded, n)
			of, rows, equalRows = append(of, float64(same)), rows+1, equalRows+same
		}
		m.rows = append(m.rows, of)
	}
	for j := range k {
		if compared[j] > 0 {
			m.Equal = append(m.Equal, ratio(equal[j], compared[j]))
		}
	}
	m.EqualRows = ratio(equalRows, rows)
	return m
}

func sum64(values []float64) (total float64) {
	for _, v := range values {
		total += v
	}
	return total
}

// explanation is a convention or a mistake whose acceptance is near the one seen.
type explanation struct {
	Chain    mtp.Chain `json:"chain"`
	PostNorm bool      `json:"post_norm"`
	Hidden   string    `json:"hidden"`
	Mistake  string    `json:"mistake,omitempty"`
	Off      float64   `json:"off"` // the largest difference to the acceptance seen

	by *convention
}

// An acceptance explains another one that is at most explains away at every position, and
// as well as the nearest does if it is at most asWell further away: a few hundred drafts
// show no less.
const (
	explains = 0.06
	asWell   = 0.02
)

// explain returns what has the acceptance by position that was seen, nearest first; if
// nothing explains it, the nearest alone.
func (c *conventions) explain(seen []float64) []*explanation {
	if len(seen) == 0 {
		return nil
	}
	var all []*explanation
	for _, one := range c.all() {
		e := &explanation{Chain: one.Chain, PostNorm: one.PostNorm, Hidden: one.Hidden, Mistake: one.Mistake, by: one}
		for j, rate := range seen {
			e.Off = max(e.Off, math.Abs(rate-one.PerPositionAcceptance[j]))
		}
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(a, b *explanation) int { return cmp.Compare(a.Off, b.Off) })
	n := 1
	for n < len(all) && all[n].Off <= min(explains, all[0].Off+asWell) {
		n++
	}
	return all[:n]
}
