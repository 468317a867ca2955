// Asmgen writes all assembly of the library, and the Go declarations that go with it.
// For each package with assembly there is a package beside this one: it makes
// [asm.File]s of functions, and go generate in the folder of the former writes them.
// Do not edit either kind of file; a test compares both with what is made here.
//
//	go generate ./attention ./weights ./hip ./hip/vec ./examples/bench
//
// # How a function is written
//
// A function is begun with its Go signature and its comment. Arguments on the stack
// are named ([asm.Func.Arg]), with offsets from the signature; so are the fields of
// the struct that many functions get a pointer to ([asm.Func.Field]), with offsets from
// go_asm.h, which the go command writes of the package's types. A field that moves is
// found where it is, one that is gone does not assemble. Constants that the unrolled
// code depends on are asserted in the Go file ([asm.File.Constants]).
//
// # Registers
//
// General registers are taken by name, [asm.Func.Take], and called by what they hold
// from there on; taking one twice panics. In weights they are
//
//	DI            the argument struct
//	AX BX SI      weights and scales of a row, x
//	R11 R12 R10   weights and scales of a chunk; chunks left, or the panel
//	R8 R13 BX R9  strides; R14 R15 DX the fourth of four rows that lie a stride apart
//	R9 CX         a table of scales and a scale's code
//
// In attention SI or DX is the argument struct, R8 … R11 are keys, and R11 or R12 is
// what is asked for ahead. In vec DI is the result, SI x, CX a count, BX an index.
//
// Vector registers are handed out: [asm.Func.Vectors] takes the lowest that are free,
// [asm.Func.Top] the highest, for constants. A function that asks for more than its
// level has panics. Sums come first, then what a decoder borrows, then constants. Masks
// are K1 and up. The functions call none, and may use R14 and X15, which Go code keeps
// for itself: the wrapper that Go calls them by sets both again.
//
// On arm64 a register stands for what the Go code calls it, [asm.Func.Register] takes the
// lowest that is free. R27 is the assembler's and R28 the goroutine's.
//
// # Two processors
//
// An operation's functions for amd64 and for arm64 are written side by side: dots.go and
// dots_neon.go, format.go and format_neon.go. What the assembler does not know of arm64,
// [asm.Func.Word] encodes. In weights a turn of the inner loop, and all that is in it, has so
// many instructions for each weight, with one row of x and with four:
//
//	         AVX2         AVX512       VBMI         NEON
//	F32      0.36  0.73   0.21  0.40                0.50  1.35
//	F16      0.33  0.70   0.18  0.37                0.65  1.57
//	BF16     0.45  0.83   0.23  0.46                0.65  1.57
//	MXFP8    0.77  1.20   0.45  0.64   0.42  0.58   1.31  2.29
//	INT8     0.64  1.08   0.45  0.61                1.31  2.29
//	MXFP4    1.08  1.52   0.48  0.67   0.42  0.61   1.28  2.51
//	NVFP4    1.17  1.58   0.55  0.73   0.48  0.67   1.41  2.57
//
// NEON has half of AVX2's lanes, and loads are instructions of their own. For a weight and a
// row of x these have exact products, and those of x rounded to one bfloat16: by BFDOT for one
// row, by BFMMLA for several. What decodes weights to panels is not counted:
//
//	rows of x        1     2     4     8     panels
//	BF16             0.65  0.47  0.39  0.39  0.32
//	BF16 rounded     0.26  0.20  0.14  0.11  0.08
//	MXFP8            1.31  0.83  0.57  0.57  0.32
//	MXFP8 rounded    1.25  0.61  0.36  0.24  0.08
//
// How fast the functions for arm64 are has not been measured: they ran in an emulator.
//
// # To add a weight format
//
//  1. Write its decoder for each level, as those in hip/internal/asmgen/weights/format.go
//     and format_neon.go:
//     how many bytes a value and a scale have, and how a chunk of 64 columns becomes vectors of
//     float32. The functions dots1 … dots4, in a file of their own, and decode are
//     made of it.
//  2. Write its dot product, in hip/internal/asmgen/weights/dot.go: of one row of x,
//     where a format may save work by multiplying before it scales.
//  3. For tile registers, if its values are exact in bfloat16, write its tileDecoder.
//  4. Generate, and name the functions in the levels of the library's
//     weights/simd_amd64.go and simd_arm64.go. Tests there compare every level with plain
//     Go.
//
// # To add a level or a processor
//
// A level is an [asm.Level], whose name its functions end with. Its functions go where
// families loop over levels; those of pairs of bfloat16, for the levels from [asm.BF16] on,
// have families of their own, with decoders to bfloat16 in place of those to float32.
// Another processor brings registers and memory operands, as package asm's amd64.go and
// arm64.go are for these two, and functions of its own; signatures, labels, tables and
// files are the same.
package main
