package asm

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWords holds the encodings to those of an assembler. The comment of each line is what
// an assembler is given: operands in the order of Arm's manual.
func TestWords(t *testing.T) {
	v := func(i int) Vec { return NEON.vector(i) }
	for name, test := range map[string]struct {
		write func(f *Func)
		want  uint32
	}{
		"fadd v3.4s, v2.4s, v1.4s":    {func(f *Func) { f.Word("FADD", v(1), v(2), v(3)) }, 0x4e21d443},
		"fsub v3.4s, v2.4s, v1.4s":    {func(f *Func) { f.Word("FSUB", v(1), v(2), v(3)) }, 0x4ea1d443},
		"fmul v31.4s, v30.4s, v29.4s": {func(f *Func) { f.Word("FMUL", v(29), v(30), v(31)) }, 0x6e3ddfdf},
		"faddp v3.4s, v2.4s, v1.4s":   {func(f *Func) { f.Word("FADDP", v(1), v(2), v(3)) }, 0x6e21d443},
		"fcmgt v3.4s, v2.4s, v1.4s":   {func(f *Func) { f.Word("FCMGT", v(1), v(2), v(3)) }, 0x6ea1e443},
		"fcmeq v3.4s, v2.4s, v1.4s":   {func(f *Func) { f.Word("FCMEQ", v(1), v(2), v(3)) }, 0x4e21e443},
		"frintn v9.4s, v8.4s":         {func(f *Func) { f.Word("FRINTN", v(8), v(9)) }, 0x4e218909},
		"fcvtns v9.4s, v8.4s":         {func(f *Func) { f.Word("FCVTNS", v(8), v(9)) }, 0x4e21a909},
		"bic v3.16b, v2.16b, v1.16b":  {func(f *Func) { f.Word("BIC", v(1), v(2), v(3)) }, 0x4e611c43},
		"fmul v3.4s, v2.4s, v17.s[3]": {func(f *Func) { f.Word("FMUL.E", v(17).Lane(3), v(2), v(3)) }, 0x4fb19843},
		"fmla v3.4s, v2.4s, v17.s[1]": {func(f *Func) { f.Word("FMLA.E", v(17).Lane(1), v(2), v(3)) }, 0x4fb11043},
		"fmla v3.4s, v2.4s, v4.s[2]":  {func(f *Func) { f.Word("FMLA.E", v(4).Lane(2), v(2), v(3)) }, 0x4f841843},
		"bfdot v9.4s, v8.8h, v7.8h":   {func(f *Func) { f.Word("BFDOT", v(7), v(8), v(9)) }, 0x6e47fd09},
		"bfmmla v9.4s, v8.8h, v7.8h":  {func(f *Func) { f.Word("BFMMLA", v(7), v(8), v(9)) }, 0x6e47ed09},
		"bfcvtn v9.4h, v8.4s":         {func(f *Func) { f.Word("BFCVTN", v(8), v(9)) }, 0x0ea16909},
		"bfcvtn2 v9.8h, v8.4s":        {func(f *Func) { f.Word("BFCVTN2", v(8), v(9)) }, 0x4ea16909},
		"fneg v9.4s, v8.4s":           {func(f *Func) { f.Word("FNEG", v(8), v(9)) }, 0x6ea0f909},
		"scvtf v9.4s, v8.4s":          {func(f *Func) { f.Word("SCVTF", v(8), v(9)) }, 0x4e21d909},
		"fcvtl v9.4s, v8.4h":          {func(f *Func) { f.Word("FCVTL", v(8), v(9)) }, 0x0e217909},
		"fcvtl2 v9.4s, v8.8h":         {func(f *Func) { f.Word("FCVTL2", v(8), v(9)) }, 0x4e217909},
		"sshll v9.8h, v8.8b, #7":      {func(f *Func) { f.Word("SSHLL", 7, v(8), v(9)) }, 0x0f0fa509},
		"sshll2 v9.8h, v8.16b, #0":    {func(f *Func) { f.Word("SSHLL2", 0, v(8), v(9)) }, 0x4f08a509},
		"sshll v9.4s, v8.4h, #0":      {func(f *Func) { f.Word("SXTL.S", v(8), v(9)) }, 0x0f10a509},
		"sshll2 v9.4s, v8.8h, #0":     {func(f *Func) { f.Word("SXTL2.S", v(8), v(9)) }, 0x4f10a509},
		"shll v9.8h, v8.8b, #8":       {func(f *Func) { f.Word("SHLL", v(8), v(9)) }, 0x2e213909},
		"shll2 v9.8h, v8.16b, #8":     {func(f *Func) { f.Word("SHLL2", v(8), v(9)) }, 0x6e213909},
		"bic v5.8h, #0x40, lsl #8":    {func(f *Func) { f.Word("BIC.I", 0x4000, v(5)) }, 0x6f02b405},
		"bic v5.8h, #0xa5, lsl #8":    {func(f *Func) { f.Word("BIC.I", 0xa500, v(5)) }, 0x6f05b4a5},
		"umaxv b9, v8.16b":            {func(f *Func) { f.Word("UMAXV", v(8), v(9)) }, 0x6e30a909},
	} {
		f := new(File).Func(NEON, "f(a *args)", "is one")
		test.write(f)
		require.Contains(t, f.body.String(), fmt.Sprintf("\tWORD $0x%08x // ", test.want), name)
	}
	f := new(File).Func(NEON, "f(a *args)", "is one")
	f.Word("SSHLL2", 7, v(8), v(9))
	f.Word("FMLA.E", v(17).Lane(1), v(2), v(3))
	require.Equal(t, "\tWORD $0x4f0fa509 // SSHLL2 $0x7, V8.B16, V9.H8\n"+
		"\tWORD $0x4fb11043 // FMLA V17.S[1], V2.S4, V3.S4\n", f.body.String())
	for name, mistake := range map[string]func(){
		"no instruction":         func() { f.Word("FCVTXN", v(1), v(2)) },
		"an operand is missing":  func() { f.Word("FADD", v(1), v(2)) },
		"no lane":                func() { f.Word("FMLA.E", v(1), v(2), v(3)) },
		"a lane":                 func() { f.Word("FADD", v(1).Lane(0), v(2), v(3)) },
		"a shift of all bits":    func() { f.Word("SSHLL", 8, v(1), v(2)) },
		"a mask of lower bits":   func() { f.Word("BIC.I", 0x4001, v(2)) },
		"more vectors than 32":   func() { new(File).Func(NEON, "f()", "is one").Vectors(33) },
		"more registers than 26": func() { new(File).Func(NEON, "f()", "is one").Registers(27) },
	} {
		require.Panics(t, mistake, name)
	}
}
