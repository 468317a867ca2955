package asm

import (
	"fmt"
	"path"
	"runtime"
	"strings"
)

// Func is a function that is being written. Its methods panic where the generator is
// wrong: a register that is taken twice, an argument that the signature does not have.
type Func struct {
	Level Level // of the instructions that it may use

	signature signature
	doc       string
	source    string // the generator's file
	body      strings.Builder
	labels    map[string]int
	frame     int
	taken     map[any]bool
}

// Func begins a function, such as "add(sum, x *float32, n int)". Its doc goes on after
// the name: "adds …".
func (f *File) Func(level Level, signature, doc string) *Func {
	_, source, _, _ := runtime.Caller(1)
	fn := &Func{Level: level, signature: parse(signature), doc: doc, source: path.Join(path.Base(path.Dir(source)), path.Base(source)), labels: map[string]int{}, taken: map[any]bool{}}
	f.functions = append(f.functions, fn)
	return fn
}

func (f *Func) assembly() string {
	return fmt.Sprintf("// func %s\n// as in %s\nTEXT ·%s(SB), NOSPLIT, $%d-%d\n%s",
		f.signature.text, f.source, f.signature.name, f.frame, f.signature.bytes, f.body.String())
}

func (f *Func) declaration() string {
	var b strings.Builder
	for _, line := range wrap(f.signature.name+" "+f.doc, 85) {
		b.WriteString(comment(line))
	}
	if f.signature.pointers {
		b.WriteString("//\n//go:noescape\n")
	}
	b.WriteString("func " + f.signature.text + "\n")
	return b.String()
}

// Op writes an instruction. Operands are registers, memory, whole numbers, which are
// immediate values, and strings, which are labels.
func (f *Func) Op(name string, operands ...any) {
	words := make([]string, len(operands))
	for i, o := range operands {
		switch o := o.(type) {
		case int:
			words[i] = fmt.Sprintf("$%d", o)
		case uint32:
			words[i] = fmt.Sprintf("$0x%08x", o)
		default:
			words[i] = fmt.Sprint(o)
		}
	}
	f.body.WriteString(strings.TrimRight("\t"+name+" "+strings.Join(words, ", "), " ") + "\n")
}

// Bytes writes an instruction that the assembler does not know.
func (f *Func) Bytes(meaning string, code ...byte) {
	words := make([]string, len(code))
	for i, b := range code {
		words[i] = fmt.Sprintf("BYTE $0x%02x", b)
	}
	fmt.Fprintf(&f.body, "\t%s // %s\n", strings.Join(words, "; "), meaning)
}

// Label returns a label of the function. A name that is there already gets a number.
func (f *Func) Label(name string) string {
	f.labels[name]++
	if n := f.labels[name]; n > 1 {
		name = fmt.Sprint(name, n)
	}
	return name
}

// Mark puts a label here, and returns it.
func (f *Func) Mark(label string) string {
	f.body.WriteString("\n" + label + ":\n")
	return label
}

// Loop repeats body until counter, a register or on amd64 memory that it decrements, is
// zero: once at least.
func (f *Func) Loop(name string, counter any, body func()) {
	label := f.Mark(f.Label(name))
	body()
	if f.Level.arm64 {
		f.Op("SUBS", 1, counter)
		f.Op("BNE", label)
		return
	}
	f.Op("DECQ", counter)
	f.Op("JNZ", label)
}

// Each repeats body for index = 0, step, 2·step … below n, for 0 at least.
func (f *Func) Each(name string, index, n GP, step int, body func()) {
	f.Op("XORQ", index, index)
	label := f.Mark(f.Label(name))
	body()
	f.Op("ADDQ", step, index)
	f.Op("CMPQ", index, n)
	f.Op("JLT", label)
}

// Return ends a function that has used vectors.
func (f *Func) Return() {
	if !f.Level.arm64 {
		f.Op("VZEROUPPER")
	}
	f.Op("RET")
}

// Arg is an argument or a result on the stack, by the name that it has in the
// signature; "ret" is a result without a name.
func (f *Func) Arg(name string) Mem {
	at, ok := f.signature.offsets[name]
	if !ok {
		panic(fmt.Sprintf("%s has no argument %s", f.signature.text, name))
	}
	return Mem{symbol: name, offset: at, base: "FP"}
}

// Field is a field of the struct that the first argument points to, at base. go_asm.h
// has the offset, by the type's and the field's name: a field that is not there does
// not assemble.
func (f *Func) Field(base GP, name string) Mem {
	return Mem{symbol: f.signature.points + "_" + name, base: string(base)}
}

// Slots returns places of size bytes each on the stack, at ascending addresses. A
// function calls it once.
func (f *Func) Slots(size int, names ...string) []Mem {
	if f.frame > 0 {
		panic("a function has its stack already")
	}
	f.frame = size * len(names)
	slots := make([]Mem, len(names))
	for i, n := range names {
		slots[i] = Mem{symbol: n, offset: size*i - f.frame, base: "SP"}
	}
	return slots
}
