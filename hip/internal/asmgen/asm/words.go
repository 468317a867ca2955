package asm

import (
	"fmt"
	"slices"
	"strings"
)

// word is an instruction of arm64 that the assembler does not know: its bits without
// registers, and the shapes of its operands. Operands are in the assembler's order, the
// destination last.
type word struct {
	bits     uint32
	shapes   []string // of vectors, the last one's is the destination's
	constant constant
}

// constant is how the first operand, where it is a number, or a lane, is encoded.
type constant int

const (
	noConstant constant = iota
	shiftLeft           // lanes of the source, in bits, and the shift
	byteUpper           // eight bits, moved to the upper half of half words
	lane                // of a vector of four
)

// shape4 is an operation on four lanes.
var shape4 = []string{"S4", "S4", "S4"}

// words are the instructions by their names. What ends a name after a point tells
// instructions of the same name apart: .E has a lane and .I a mask as its first operand,
// .S the destination's shape.
var words = map[string]word{
	"FADD":    {bits: 0x4e20d400, shapes: shape4},
	"FSUB":    {bits: 0x4ea0d400, shapes: shape4}, // the second operand less the first
	"FMUL":    {bits: 0x6e20dc00, shapes: shape4},
	"FADDP":   {bits: 0x6e20d400, shapes: shape4}, // sums of neighbors: the second operand's, then the first's
	"FCMGT":   {bits: 0x6ea0e400, shapes: shape4}, // all bits where the second operand is the larger one
	"FCMEQ":   {bits: 0x4e20e400, shapes: shape4},
	"FRINTN":  {bits: 0x4e218800, shapes: []string{"S4", "S4"}}, // to the nearest integer
	"FCVTNS":  {bits: 0x4e21a800, shapes: []string{"S4", "S4"}},
	"BIC":     {bits: 0x4e601c00, shapes: []string{"B16", "B16", "B16"}}, // the second operand without the bits of the first
	"FMUL.E":  {bits: 0x4f809000, shapes: shape4, constant: lane},
	"FMLA.E":  {bits: 0x4f801000, shapes: shape4, constant: lane},
	"BFDOT":   {bits: 0x6e40fc00, shapes: []string{"H8", "H8", "S4"}}, // of pairs of bfloat16
	"BFMMLA":  {bits: 0x6e40ec00, shapes: []string{"H8", "H8", "S4"}}, // of two rows of four bfloat16 with two others
	"BFCVTN":  {bits: 0x0ea16800, shapes: []string{"S4", "H4"}},
	"BFCVTN2": {bits: 0x4ea16800, shapes: []string{"S4", "H8"}},
	"FNEG":    {bits: 0x6ea0f800, shapes: []string{"S4", "S4"}},
	"SCVTF":   {bits: 0x4e21d800, shapes: []string{"S4", "S4"}},
	"FCVTL":   {bits: 0x0e217800, shapes: []string{"H4", "S4"}},
	"FCVTL2":  {bits: 0x4e217800, shapes: []string{"H8", "S4"}},
	"SSHLL":   {bits: 0x0f00a400, shapes: []string{"B8", "H8"}, constant: shiftLeft},
	"SSHLL2":  {bits: 0x4f00a400, shapes: []string{"B16", "H8"}, constant: shiftLeft},
	"SXTL.S":  {bits: 0x0f10a400, shapes: []string{"H4", "S4"}},
	"SXTL2.S": {bits: 0x4f10a400, shapes: []string{"H8", "S4"}},
	"SHLL":    {bits: 0x2e213800, shapes: []string{"B8", "H8"}}, // by the bits of a lane
	"SHLL2":   {bits: 0x6e213800, shapes: []string{"B16", "H8"}},
	"BIC.I":   {bits: 0x6f00b400, shapes: []string{"H8"}, constant: byteUpper},
	"UMAXV":   {bits: 0x6e30a800, shapes: []string{"B16", "F"}},
}

// Word writes an instruction of words. Vectors take the shapes that it has; a shift or a
// mask is the first operand.
func (f *Func) Word(name string, operands ...any) {
	w, ok := words[name]
	if !ok {
		panic(fmt.Sprintf("%s: no instruction %s", f.signature.name, name))
	}
	bits := w.bits
	text := []string{}
	if w.constant == shiftLeft || w.constant == byteUpper {
		value := operands[0].(int)
		text, operands = append(text, fmt.Sprintf("$%#x", value)), operands[1:]
		switch {
		case w.constant == byteUpper && value == value&0xff00:
			bits |= uint32(value>>13)<<16 | uint32(value>>8&31)<<5
		case w.constant == shiftLeft && 0 <= value && value < 8: // of bytes
			bits |= uint32(8+value) << 16
		default:
			panic(fmt.Sprintf("%s: %s does not have %d", f.signature.name, name, value))
		}
	}
	if len(operands) != len(w.shapes) {
		panic(fmt.Sprintf("%s: %s has %d vectors, not %d", f.signature.name, name, len(w.shapes), len(operands)))
	}
	// In the bits the destination is first, and what is read follows from the end.
	places := []uint32{0, 5, 16}
	slices.Reverse(operands)
	vectors := make([]string, len(operands))
	for i, o := range operands {
		e, isLane := o.(Element)
		v, _ := o.(Vec)
		if isLane != (w.constant == lane && i == 2) {
			panic(fmt.Sprintf("%s: %s has a lane as its first operand, or none", f.signature.name, name))
		}
		shape := w.shapes[len(operands)-1-i]
		vectors[len(operands)-1-i] = v.As(shape).String()
		if isLane {
			v = e.vector
			bits |= uint32(e.lane&1)<<21 | uint32(e.lane>>1)<<11
			vectors[len(operands)-1-i] = e.String()
		}
		bits |= uint32(v.number) << places[i]
	}
	name, _, _ = strings.Cut(name, ".")
	fmt.Fprintf(&f.body, "\tWORD $0x%08x // %s", bits, name)
	separator := " "
	for _, t := range append(text, vectors...) {
		f.body.WriteString(separator + t)
		separator = ", "
	}
	f.body.WriteString("\n")
}
