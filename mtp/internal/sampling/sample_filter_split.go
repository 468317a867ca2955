package sampling

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// filterBins and filterNarrow are filter for rows of several parts on a GPU, where one block
// a row would leave most of it idle. The three stages, top-k, top-p and the room of the list,
// each search in rounds: filterBins adds up the weights of each part in 256 bins of their
// bits, and filterNarrow goes on in the bin in which the weights from the largest on come to
// what the stage keeps. Four rounds find a number. What is kept is what filter keeps; the
// least weight is one of the row's, which filter's need not be.
var (
	filterBins   = hip.NewKernel("sample_filter_bins", source(filterHIP), filterBinsTwin).Block(threads)
	filterNarrow = hip.NewKernel("sample_filter_narrow", source(filterHIP), filterNarrowTwin).Block(bins)
)

const (
	bins         = 256
	filterStages = 3
	filterRounds = 4
)

// filterState is a row's search: between bits Low and below High.
type filterState struct {
	Low, High uint32
	Need      uint64 // that the weights from the least on come to
}

type sampleFilterSplitArgs struct {
	Weights hip.Ptr // [Rows, Vocab] float32
	Params  hip.Ptr // [Rows] Params
	State   hip.Ptr // [Rows] filterState
	Bins    hip.Ptr // [Rows, Parts, bins] uint64
	Least   hip.Ptr // [Rows] float32

	Rows, Vocab, Parts, Most, Stage, Round int32
}

// few returns how many weights the stage keeps, 0 for no bound.
func (a *sampleFilterSplitArgs) few(q *Params) int {
	few := int32(0)
	switch {
	case a.Stage == 2:
		few = a.Most
	case a.Stage == 0 && q.Flags&FlagProbabilities == 0:
		few = q.TopK
	}
	if few >= a.Vocab {
		return 0
	}
	return int(few)
}

// part reports whether the stage keeps a part of the sum.
func (a *sampleFilterSplitArgs) part(q *Params) bool {
	return a.Stage == 1 && q.Flags&FlagProbabilities == 0 && q.TopP > 0 && q.TopP < 1
}

// searched returns the bits between which a row's search goes on, given its state.
func (a *sampleFilterSplitArgs) searched(q *Params, state filterState) filterState {
	if a.Round > 0 {
		return state
	}
	s := filterState{Low: lowestBits, High: aboveBits}
	if a.Stage > 0 {
		s.Low = state.Low
	} else {
		s.Low = lowOf(q)
	}
	if a.few(q) <= 0 && !a.part(q) {
		s.High = s.Low + 1
	}
	return s
}

func (s *filterState) over() bool   { return s.High-s.Low <= 1 }
func (s *filterState) step() uint32 { return (s.High - s.Low + bins - 1) / bins }

func filterBinsTwin(b *hip.Blocks, a *sampleFilterSplitArgs) {
	rows, vocab, parts := int(a.Rows), int(a.Vocab), int(a.Parts)
	params, states := hip.In[Params](b, a.Params, rows), hip.In[filterState](b, a.State, rows)
	out := hip.Out[uint64](b, a.Bins, rows*parts*bins)
	for block := b.First; block < b.End; block++ {
		row, first := block/parts, block%parts*part
		q := &params[row]
		if q.Flags&FlagGreedy != 0 {
			continue
		}
		s := a.searched(q, states[row])
		if s.over() {
			continue
		}
		sums := out[block*bins : (block+1)*bins]
		clear(sums)
		step, count := s.step(), !a.part(q)
		for _, v := range hip.In[float32](b, a.Weights.Add(4*int64(row*vocab+first)), min(part, vocab-first)) {
			bits := math.Float32bits(v)
			switch bin := min((bits-s.Low)/step, bins-1); {
			case bits < s.Low:
			case count:
				sums[bin]++
			default:
				sums[bin] += wholeOf(v)
			}
		}
	}
}

func filterNarrowTwin(b *hip.Blocks, a *sampleFilterSplitArgs) {
	rows, parts := int(a.Rows), int(a.Parts)
	params, states := hip.In[Params](b, a.Params, rows), hip.Out[filterState](b, a.State, rows)
	in, least := hip.In[uint64](b, a.Bins, rows*parts*bins), hip.Out[float32](b, a.Least, rows)
	for row := b.First; row < b.End; row++ {
		q := &params[row]
		if q.Flags&FlagGreedy != 0 {
			continue
		}
		s := a.searched(q, states[row])
		if !s.over() {
			var from [bins + 1]uint64 // from a bin on
			for bin := bins - 1; bin >= 0; bin-- {
				from[bin] = from[bin+1]
				for p := range parts {
					from[bin] += in[(row*parts+p)*bins+bin]
				}
			}
			s.narrow(a, q, &from)
		}
		states[row], least[row] = s, math.Float32frombits(s.Low)
	}
}

// narrow goes on in the bin of the least weight that is kept.
func (s *filterState) narrow(a *sampleFilterSplitArgs, q *Params, from *[bins + 1]uint64) {
	if a.Round == 0 {
		ends := false
		if a.part(q) {
			s.Need = max(1, uint64(float64(from[0])*q.TopP))
			ends = from[0] == 0
		} else {
			s.Need = uint64(a.few(q))
			ends = from[0] <= s.Need
		}
		if ends {
			s.High = min(s.High, s.Low+1)
			return
		}
	}
	bin, step := uint32(bins-1), s.step()
	for from[bin] < s.Need {
		bin--
	}
	s.Low += bin * step
	s.High = min(s.High, s.Low+step)
}

// launchSplit finds the least weights of rows of several parts.
func (s *Sampler) launchSplit(d hip.Device, a sampleFilterSplitArgs) error {
	for a.Stage = range int32(filterStages) {
		if a.Stage == 2 && a.Most == 0 {
			break
		}
		for a.Round = range int32(filterRounds) {
			if err := filterBins.Launch(d, hip.Grid{Blocks: int(a.Rows * a.Parts), BlockCost: 4 * part}, &a); err != nil {
				return err
			}
			if err := filterNarrow.Launch(d, hip.Grid{Blocks: int(a.Rows), BlockCost: int(a.Parts) * bins}, &a); err != nil {
				return err
			}
		}
	}
	return nil
}
