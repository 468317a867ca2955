package weights

import (
	"fmt"
	"slices"
	"strings"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// check decides a part's format and reports all that does not fit: dtypes, the
// shapes of weight and scale, and a share that cuts through a scale.
func (a *audit) check(p *Param, part *Part, s *origin) {
	switch {
	case s.weight == nil && (s.scale != nil || s.global != nil || s.unused != nil):
		for _, t := range []*safetensors.Tensor{s.scale, s.global, s.unused} {
			if t != nil {
				a.problem(t.Name, p.Name, ruleStrayScale, "", "a weight beside it")
			}
		}
		return
	case s.weight == nil:
		if !p.Optional {
			a.problem(a.absent(part.Tensor), p.Name, ruleMissing, "", "")
		}
		return
	}
	if got, want := s.weight.Shape, wantShapes(part, s.weight.Dtype); !fits(got, want) {
		a.problem(s.weight.Name, p.Name, ruleWrongShape, safetensors.Printable(fmt.Sprint(got)), fmt.Sprint(want[0]))
	}
	format, want, rule := a.formatOf(p, s)
	if rule != "" {
		a.problem(s.weight.Name, p.Name, rule, describe(s), want)
		return
	}
	s.format = format
	a.checkGlobal(p, s)
	if !format.quantized() {
		return
	}
	scaleRows, scaleCols := format.scaleShape(part.rows(), part.cols())
	if want := []int{scaleRows, scaleCols}; !slices.Equal(s.scale.Shape, want) {
		a.problem(s.scale.Name, p.Name, ruleWrongShape, safetensors.Printable(fmt.Sprint(s.scale.Shape)), fmt.Sprint(want))
	}
	block := formats[format].blockCols
	if k := part.keepCols(); k[0]%block != 0 || k[1]%block != 0 && k[1] != part.cols() {
		a.problem(s.weight.Name, p.Name, ruleCutBlock, fmt.Sprintf("columns %d to %d", k[0], k[1]),
			fmt.Sprintf("multiples of the scale block, %d", block))
	}
}

// formatOf finds the row of the format table for a weight and its scales, or returns
// the rule that is broken and what would do.
func (a *audit) formatOf(p *Param, s *origin) (f Format, want string, rule ruleText) {
	dtype := s.weight.Dtype
	for f = 1; f < endFormat; f++ {
		row := &formats[f]
		switch {
		case row.made || row.weight != dtype || p.vector() && f.quantized():
			continue
		case !f.quantized():
			if s.scale != nil {
				return 0, "no scales beside " + string(dtype), ruleStrayScale
			}
			return f, "", ""
		case s.scale == nil:
			return 0, "", ruleMissingScale
		}
		for _, scale := range row.scales {
			if scale == s.scale.Dtype {
				return f, "", ""
			}
		}
	}
	return 0, wantDtypes(p.vector(), s), ruleWrongDtype
}

// wantDtypes says what dtypes a part with this weight may have.
func wantDtypes(vector bool, s *origin) string {
	switch {
	case vector:
		return "F32, F16 or BF16"
	case s.weight.Dtype != safetensors.F8E4M3 && s.weight.Dtype != safetensors.U8:
		return "F32, F16, BF16, F8_E4M3 or U8"
	}
	var dtypes []string
	for f := Format(1); f < endFormat; f++ {
		if f.quantized() && !formats[f].made && formats[f].weight == s.weight.Dtype {
			for _, d := range formats[f].scales {
				dtypes = append(dtypes, string(d))
			}
		}
	}
	last := len(dtypes) - 1
	return strings.Join(dtypes[:last], ", ") + " or " + dtypes[last] + " scales"
}

// describe says what dtypes a part has.
func describe(s *origin) string {
	if s.scale == nil {
		return string(s.weight.Dtype)
	}
	return fmt.Sprintf("%v with %v scales", s.weight.Dtype, s.scale.Dtype)
}

// scalarShapes are those of one number.
var scalarShapes = [][]int{{}, {1}}

// wantShapes returns the shapes that a part of a dtype may have, the usual one first.
func wantShapes(part *Part, dtype safetensors.Dtype) [][]int {
	switch {
	case len(part.Shape) == 0:
		return scalarShapes
	case len(part.Shape) == 2 && dtype == safetensors.U8:
		return [][]int{MXFP4.storedShape(part.rows(), part.cols())}
	}
	return [][]int{part.Shape}
}

func fits(got []int, want [][]int) bool {
	return slices.ContainsFunc(want, func(w []int) bool { return slices.Equal(got, w) })
}
