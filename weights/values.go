package weights

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// What can be wrong with the values of a tensor.
const (
	ruleZero      ruleText = "all values are zero" // a download that was never written, mostly
	ruleNotFinite ruleText = "values are NaN or infinite"
)

// biasSuffix is the one parameter that may be zero: a router may do without its bias.
const biasSuffix = "e_score_correction_bias"

// lanes says how to look at numbers of one format eight bytes at a time. If the exponent or
// the code of a number is all ones, adding one to its lowest bit carries into the sign's
// place, which is cleared before.
type lanes struct{ ones, one, carry, magnitude uint64 }

var lanesOf = map[safetensors.Dtype]lanes{
	safetensors.F32:    {0x7f800000_7f800000, 0x00800000_00800000, 0x80000000_80000000, 0x7fffffff_7fffffff},
	safetensors.BF16:   {0x7f807f80_7f807f80, 0x00800080_00800080, 0x80008000_80008000, 0x7fff7fff_7fff7fff},
	safetensors.F16:    {0x7c007c00_7c007c00, 0x04000400_04000400, 0x80008000_80008000, 0x7fff7fff_7fff7fff},
	safetensors.F8E4M3: {0x7f7f7f7f_7f7f7f7f, 0x01010101_01010101, 0x80808080_80808080, 0x7f7f7f7f_7f7f7f7f},
}

// What was seen of an area.
const (
	seenNonZero   = 1 << iota
	seenNotFinite // NaN, and infinities
	seenLarge     // a scale that makes an infinity of a large code, or numbers cut in two
)

// seen collects what passes of one area. Several goroutines may add to it.
type seen struct {
	dtype safetensors.Dtype
	scale bool
	four  bool // codes of 4 bits, or scales of them that cannot make an infinity
	flags atomic.Uint32
}

func (s *seen) has(flag uint32) bool { return s.flags.Load()&flag != 0 }

// add looks at bytes from offset off of the area.
func (s *seen) add(p []byte, off int64) {
	l, ok := lanesOf[s.dtype]
	width := int64(s.dtype.Bits() / 8)
	switch {
	case s.four && !s.scale:
		s.addE2M1(p)
		return
	case !ok:
		s.addE8M0(p)
		return
	case off%width != 0 || int64(len(p))%width != 0:
		s.flags.Or(seenLarge)
		return
	}
	var bits, carries uint64
	for len(p) >= 32 {
		a, b := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
		c, d := binary.LittleEndian.Uint64(p[16:]), binary.LittleEndian.Uint64(p[24:])
		bits |= a | b | c | d
		carries |= (a&l.ones + l.one) | (b&l.ones + l.one) | (c&l.ones + l.one) | (d&l.ones + l.one)
		p = p[32:]
	}
	for len(p) > 0 {
		var last [8]byte
		p = p[copy(last[:], p):]
		a := binary.LittleEndian.Uint64(last[:])
		bits |= a
		carries |= a&l.ones + l.one
	}
	flags := uint32(0)
	if bits&l.magnitude != 0 {
		flags |= seenNonZero
	}
	if carries&l.carry != 0 {
		flags |= seenNotFinite
	}
	if s.scale && !s.four { // float scales are few: those of 128 × 128 codes each
		flags |= seenLarge
	}
	s.flags.Or(flags)
}

// addE2M1 looks at codes of 4 bits, which are all finite.
func (s *seen) addE2M1(p []byte) {
	for _, codes := range p {
		if codes&0x77 != 0 {
			s.flags.Or(seenNonZero)
			return
		}
	}
}

// addE8M0 looks at scales of powers of two, of which none is zero.
func (s *seen) addE8M0(p []byte) {
	largest := byte(0)
	for _, code := range p {
		largest = max(largest, code)
	}
	flags := uint32(seenNonZero)
	switch {
	case largest == 255:
		flags |= seenNotFinite
	case largest >= 247: // 2^120 · 448 is above the largest float32
		flags |= seenLarge
	}
	s.flags.Or(flags)
}

// partValues is what was seen of a part that is checked.
type partValues struct {
	param       *Param
	part        *Part
	source      *origin
	data, scale seen
}

// valueCheck collects the parts whose values are checked; nil checks nothing.
type valueCheck struct{ parts []*partValues }

// watch makes what is read of a part's areas pass the check.
func (c *valueCheck) watch(p *Param, part *Part, s *origin, data, scale *area) {
	if c == nil {
		return
	}
	v := &partValues{param: p, part: part, source: s}
	v.data.dtype, v.data.four, data.seen = s.weight.Dtype, formats[s.format].packed, &v.data
	if scale.tensor != nil {
		v.scale.dtype, v.scale.scale, scale.seen = s.scale.Dtype, true, &v.scale
		v.scale.four = s.format == NVFP4 && 6*448*float64(s.of.factor)/float64(s.of.divisor) <= math.MaxFloat32
	}
	c.parts = append(c.parts, v)
}

// err returns the parts whose values are all zero, or NaN or infinite, by tensor.
func (c *valueCheck) err(ctx context.Context) error {
	if c == nil {
		return nil
	}
	a := newAudit(nil)
	for _, v := range c.parts {
		zero, finite, err := v.judge(ctx)
		if err != nil {
			return fmt.Errorf("weights: check: %w", err)
		}
		name := v.source.weight.Name
		if v.scale.has(seenNotFinite) && formats[v.source.format].packed {
			name = v.source.scale.Name
		}
		switch {
		case !finite:
			a.problem(name, v.param.Name, ruleNotFinite, "", "")
		case zero && !strings.HasSuffix(name, biasSuffix):
			a.problem(name, v.param.Name, ruleZero, "", "")
		}
	}
	return a.err()
}

// judge says what is wrong with a part. It decodes one where a product may overflow.
func (v *partValues) judge(ctx context.Context) (zero, finite bool, err error) {
	zero = !v.data.has(seenNonZero) || v.source.format == NVFP4 && !v.scale.has(seenNonZero)
	finite = !v.data.has(seenNotFinite) && !v.scale.has(seenNotFinite)
	if !finite || !v.scale.has(seenLarge) && !v.data.has(seenLarge) {
		return zero, finite, nil
	}
	return v.decode(ctx)
}

// decode looks at every value of a part as it is computed with.
func (v *partValues) decode(ctx context.Context) (zero, finite bool, err error) {
	data, scale := v.source.share(v.part)
	row := make([]float32, v.part.keepCols().Len())
	raw, scales := make([]byte, data.width), make([]byte, scale.width)
	zero = true
	block := max(1, formats[v.source.format].blockRows)
	first := v.part.keepRows()[0] % block
	for i := range data.rows {
		if err := errors.Join(ctx.Err(), data.readAt(raw, i*data.width)); err != nil {
			return false, false, err
		}
		if scale.width > 0 {
			if err := scale.readAt(scales, (int64(first)+i)/int64(block)*scale.width); err != nil {
				return false, false, err
			}
		}
		v.source.format.Decode(row, raw, scales)
		v.source.of.scale(row)
		for _, x := range row {
			zero = zero && x == 0
			if !isFinite(x) {
				return false, false, nil
			}
		}
	}
	return zero, true, nil
}

func isFinite(x float32) bool { return math.Abs(float64(x)) <= math.MaxFloat32 }

// scan reads an area from end to end, so that its bytes pass the check.
func (a *area) scan(ctx context.Context, buf []byte, done func(n int64)) ([]byte, error) {
	for off, size := int64(0), a.bytes(); off < size; {
		if err := ctx.Err(); err != nil {
			return buf, err
		}
		n := min(size-off, uploadChunk)
		buf = slices.Grow(buf[:0], int(n))[:n]
		if err := a.readAcross(buf, off); err != nil {
			return buf, err
		}
		done(n)
		off += n
	}
	return buf, nil
}

// CheckWeights reads all that this rank holds and reports the tensors whose values are all
// zero, or are NaN or infinite, as a [*Problem] each: preallocated downloads, and junk
// after a sound header. Only a router's bias may be zero. The notes say what is suspicious
// and may be meant: norms that are centered on 1, as weights for x · w are, where the head
// computes x · (1 + w). progress, which may be nil, is called with the bytes that are read
// and their total.
func (p *Plan) CheckWeights(ctx context.Context, progress func(done, total int64)) (notes []string, err error) {
	done := int64(0)
	count := func(n int64) {
		if done += n; progress != nil {
			progress(done, p.report.Bytes)
		}
	}
	check := new(valueCheck)
	var buf []byte
	var ones []string
	for i := range p.params {
		param := &p.params[i]
		for j := range p.sources[i] {
			s, part := &p.sources[i][j], &param.Parts[j]
			if s.weight == nil || part.keepRows().Len() == 0 {
				continue
			}
			data, scale := s.share(part)
			check.watch(param, part, s, &data, &scale)
			for _, a := range []*area{&data, &scale} {
				if a.tensor == nil {
					continue
				}
				if buf, err = a.scan(ctx, buf, count); err != nil {
					return nil, fmt.Errorf("weights: check: %w", err)
				}
			}
		}
		if isNorm(param) {
			values, _, err := vectorValues(param, p.sources[i])
			if err != nil {
				return nil, fmt.Errorf("weights: check: %w", err)
			}
			if centeredOnOne(values) {
				ones = append(ones, param.Name)
			}
		}
	}
	if len(ones) > 0 {
		notes = append(notes, fmt.Sprintf("%s centered on 1, %s first: weights for x · w? this head computes x · (1 + w)", countOf(len(ones), "norm is", "norms are"), ones[0]))
	}
	return notes, check.err(ctx)
}

func countOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// isNorm reports whether a parameter is the weight of a norm.
func isNorm(p *Param) bool { return p.vector() && strings.HasSuffix(p.Name, "norm.weight") }

// centeredOnOne reports whether most of the values of a norm are nearer to 1 than to 0.
func centeredOnOne(values []float32) bool {
	near, sum := 0, 0.0
	for _, x := range values {
		if x > 0.5 && x < 1.5 {
			near++
		}
		sum += float64(x)
	}
	mean := sum / float64(max(len(values), 1))
	return 4*near > 3*len(values) && mean > 0.75 && mean < 1.25
}
