package weights

import (
	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

const (
	digitColumns = 256  // of a group, which has 16 blocks of 16 columns
	digitBlock   = 16   // columns of x that share a scale
	digits       = 3    // of a value of x
	digitBytes   = 896  // of a group: digits, scales and offsets, see packDigits
	digitAhead   = 2048 // bytes ahead of their use that weights are asked for
	digitFar     = 8192 // the same, for the second cache
)

// digitsFile holds the products of rows of four-bit codes with one row of x in integers.
func digitsFile() *asm.File {
	f := file("digits", "Products of rows of four-bit codes with one row of x, in digits of integers.",
		asm.Constant{Name: "digitColumns", Value: digitColumns}, asm.Constant{Name: "digitBytes", Value: digitBytes})
	// Twice the values of e2m1 plus 12, so that they are not below zero, four times over: an
	// index into it may have anything in the bits above the lowest four.
	values := make([]byte, 64)
	for i := range values {
		v := []int{0, 1, 2, 3, 4, 6, 8, 12}[i&7]
		if i&8 != 0 {
			v = -v
		}
		values[i] = byte(12 + v)
	}
	f.Table("e2m1Digits", values)
	// The scales of blocks in the order that digitLane gives: of 16 columns, and of 32.
	nvfp4, mxfp4 := make([]byte, 16), make([]byte, 16)
	for block := range 16 {
		nvfp4[digitLane(block)], mxfp4[digitLane(block)] = byte(block), byte(block/2)
	}
	f.Table("nvfp4Order", nvfp4)
	f.Table("mxfp4Order", mxfp4)
	// The even columns of 16, then the odd ones.
	even := make([]byte, 16)
	for i := range 8 {
		even[i], even[8+i] = byte(2*i), byte(2*i+1)
	}
	f.Table("evenFirst", even)
	packDigits(f)
	for _, format := range fp4Formats {
		dotDigits(f, format)
	}
	return f
}

// digitLane is the lane of the sum of a block's products. The products of 128 columns are in
// 16 lanes, two for each block; those of two vectors are then added up in pairs, four lanes
// at a time: of the first vector, and then of the second.
func digitLane(block int) int {
	half, i := block/8, block%8
	return 4*(i/2) + 2*half + i%2
}

// packDigits makes integers of x, 23 bits and a sign of the largest of 16 columns, and
// digits of them to the base of 256, from −128 to 127. A largest value just below a power of
// two would have a first digit of 128: it counts as the power of two.
func packDigits(file *asm.File) {
	f := file.Func(asm.VNNI, "packDigits(a *packDigitsArgs)",
		"makes digits of groups of 256 columns: of each digit, the first first, the even and the odd columns "+
			"of the first 128 and of the others; a float32 for each block of 16 columns, by which to multiply; and an int32, "+
			"to add to the sum of digits times weights that are 12 too large. It sets special if x has a value that is "+
			"not finite, or a block of which no value is as large as 2^−103.")
	args, x, to, groups, by := f.Take(asm.DI), f.Take(asm.SI), f.Take(asm.DX), f.Take(asm.R10), f.Take(asm.CX)
	v := f.Vectors(digitBlock)
	all, t, digit := v[0], f.Vector(), f.Vector() // all blocks of a group, a lane each
	magnitude, carry, least, infinity := f.Vector(), f.Vector(), f.Vector(), f.Vector()
	ones, round, inverse, down, twelve, even := f.Vector(), f.Vector(), f.Vector(), f.Vector(), f.Vector(), f.Vector()
	const bad, found = asm.K1, asm.K2
	const less, notLess = 1, 5
	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", f.Field(args, "x"), x)
	f.Op("MOVQ", f.Field(args, "digits"), to)
	f.Op("MOVQ", f.Field(args, "groups"), groups)
	f.Broadcast(0x7fffffff, by, magnitude)
	f.Broadcast(0x00020000, by, carry)
	f.Broadcast(24, by, least)
	f.Broadcast(0x7f800000, by, infinity)
	f.Broadcast(1, by, ones)
	f.Broadcast(128, by, round)
	f.Broadcast(276, by, inverse)
	f.Broadcast(23, by, down)
	f.Broadcast(12, by, twelve)
	f.Op("VMOVDQU64", asm.Table("evenFirst"), even.X())
	f.Op("KXORW", bad, bad, bad)
	blockOf := make([]int, digitBlock) // of a lane
	for block := range digitBlock {
		blockOf[digitLane(block)] = block
	}
	scales, offsets := to.At(256*digits), to.At(256*digits+64)
	f.Loop("group", groups, func() {
		for lane, block := range blockOf {
			f.Op("VPANDD", x.At(64*block), magnitude, v[lane])
		}
		reduceEach(f, "VPMAXUD", v, t)
		f.Op("VPCMPUD", notLess, infinity, all, found)
		f.Op("KORW", found, bad, bad)
		f.Op("VPSUBD", ones, all, t) // of zeros that is the largest
		f.Op("VPSRLD", 23, t, t)
		f.Op("VPCMPUD", less, least, t, found)
		f.Op("KORW", found, bad, bad)
		f.Op("VPADDD", carry, all, all)
		f.Op("VPSRLD", 23, all, all) // the exponents
		f.Op("VPMAXUD", least, all, all)
		f.Op("VPSUBD", all, inverse, t)
		f.Op("VPSLLD", 23, t, t)
		f.Op("VMOVUPS", t, offsets)
		f.Op("VPSUBD", down, all, all)
		f.Op("VPSLLD", 23, all, all)
		f.Op("VMOVUPS", all, scales)
		for lane, block := range blockOf {
			f.Op("VBROADCASTSS", offsets.Plus(4*lane), t)
			f.Op("VMULPS", x.At(64*block), t, t)
			f.Op("VCVTPS2DQ", t, t)
			f.Op("VMOVDQA64", t, v[lane])
			for d := digits - 1; d >= 0; d-- {
				f.Op("VPMOVDB", t, digit.X())
				f.Op("VPSHUFB", even.X(), digit.X(), digit.X())
				at := to.At(256*d + 128*(block/8) + 8*(block%8))
				f.Op("VMOVLPS", digit.X(), at)
				f.Op("VMOVHPS", digit.X(), at.Plus(64))
				if d > 0 {
					f.Op("VPADDD", round, t, t)
					f.Op("VPSRAD", 8, t, t)
				}
			}
		}
		reduceEach(f, "VPADDD", v, t)
		f.Op("VPMULLD", twelve, all, all)
		f.Op("VPXORD", t, t, t)
		f.Op("VPSUBD", all, t, t)
		f.Op("VMOVUPS", t, offsets)
		f.Op("ADDQ", 4*digitColumns, x)
		f.Op("ADDQ", digitBytes, to)
	})
	numbers := f.Label("numbers")
	f.Op("KORTESTW", bad, bad)
	f.Op("JZ", numbers)
	f.Op("MOVQ", 1, f.Field(args, "special"))
	f.Mark(numbers)
	f.Return()
}

// reduceEach reduces the lanes of each of 16 vectors to one, vector i to lane i of the first.
func reduceEach(f *asm.Func, op string, v []asm.Vec, t asm.Vec) {
	for _, shuffle := range []string{"VSHUFPS", "VSHUFPS", "VSHUFI32X4", "VSHUFI32X4"} {
		for i := 0; i < len(v); i += 2 {
			f.Op(shuffle, uint32(0x88), v[i+1], v[i], t)
			f.Op(shuffle, uint32(0xdd), v[i+1], v[i], v[i+1])
			f.Op(op, t, v[i+1], v[i/2])
		}
		v = v[:len(v)/2]
	}
}

// digitStreams is the runs of rows that are multiplied side by side: as many as there are
// registers for, so that their sums do not wait for each other. ofStream are the fields that
// say how far after the first each lies.
const digitStreams = 3

var ofStream = []string{"", "second", "third"}

// dotDigits multiplies three runs of rows.
func dotDigits(file *asm.File, format fp4Format) {
	f := file.Func(asm.VNNI, "dotDigits"+format.name+"(a *dotDigitsArgs)", "computes y[j] = Σ w[j][c]·x[c] for rows stored as "+format.name+
		" and three runs of them: exact sums of digits times weights over 16 columns, rounded to float32, times the scale of x, "+
		"times that of the weights, added up in float32, by 16 lanes.")
	args, by := f.Take(asm.DI), f.Take(asm.CX)
	x, y, rows, groups := f.Take(asm.SI), f.Take(asm.DX), f.Take(asm.R8), f.Take(asm.R10)
	w := []asm.GP{f.Take(asm.R9), f.Take(asm.R11), f.Take(asm.R12)}
	scale := []asm.GP{f.Take(asm.R13), f.Take(asm.R14), f.Take(asm.R15)}
	rowW, rowScale := f.Take(asm.AX), f.Take(asm.BX)
	part, spare := f.Vector(), f.Vector()
	table, order := f.Vector(), f.Vector()
	sums, seen := f.Vectors(digitStreams), f.Vectors(digitStreams)
	weights, acc := f.Vectors(4*digitStreams), f.Vectors(2*digitStreams) // by stream, and by half
	mask, unsigned := f.Vector(), f.Vector()                             // NVFP4: of half precision and of bytes; MXFP4: the least scale
	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", f.Field(args, "w"), rowW)
	f.Op("MOVQ", f.Field(args, "scale"), rowScale)
	f.Op("MOVQ", f.Field(args, "y"), y)
	f.Op("MOVQ", f.Field(args, "rows"), rows)
	f.Op("VMOVDQU64", asm.Table("e2m1Digits"), table)
	nvfp4 := format.name == "NVFP4"
	if nvfp4 {
		f.Op("VMOVDQU64", asm.Table("nvfp4Order"), order.X())
		f.Broadcast(0xbf80bf80, by, mask)
		f.Broadcast(0x7f7f7f7f, by, unsigned)
	} else {
		f.Op("VMOVDQU64", asm.Table("mxfp4Order"), order.X())
		f.Broadcast(1<<22, by, mask)
		f.Op("VPTERNLOGD", uint32(0xff), unsigned, unsigned, unsigned)
	}
	f.Loop("row", rows, func() {
		f.Clear(sums...)
		f.Clear(seen...)
		for i, of := range ofStream {
			f.Op("MOVQ", rowW, w[i])
			f.Op("MOVQ", rowScale, scale[i])
			if i > 0 {
				f.Op("ADDQ", f.Field(args, of), w[i])
				f.Op("ADDQ", f.Field(args, of+"Scale"), scale[i])
			}
		}
		f.Op("MOVQ", f.Field(args, "digits"), x)
		f.Op("MOVQ", f.Field(args, "groups"), groups)
		f.Loop("group", groups, func() {
			for i := range w {
				for line := range 2 {
					f.Op("PREFETCHT0", w[i].At(digitAhead+64*line))
					f.Op("PREFETCHT1", w[i].At(digitFar+64*line))
				}
				for half := range 2 {
					v := weights[4*i+2*half : 4*i+2*half+2] // of even and of odd columns
					f.Op("VMOVDQU64", w[i].At(64*half), v[1])
					f.Op("VPERMB", table, v[1], v[0])
					f.Op("VPSRLW", 4, v[1], v[1])
					f.Op("VPERMB", table, v[1], v[1])
				}
			}
			f.Clear(acc...)
			for d := range digits {
				for k := range 4 {
					f.Op("VMOVDQU64", x.At(256*d+64*k), part)
					for i := range w {
						f.Op("VPDPBUSD", part, weights[4*i+k], acc[2*i+k/2])
					}
				}
				if d < digits-1 {
					for _, a := range acc {
						f.Op("VPSLLD", 8, a, a)
					}
				}
			}
			for i := range w {
				a, b, t := acc[2*i], acc[2*i+1], weights[4*i]
				f.Op("VSHUFPS", uint32(0x88), b, a, t)
				f.Op("VSHUFPS", uint32(0xdd), b, a, a)
				f.Op("VPADDD", t, a, a)
				f.Op("VPADDD", x.At(256*digits+64), a, a)
				f.Op("VCVTDQ2PS", a, a)
				f.Op("VMULPS", x.At(256*digits), a, a)
				if nvfp4 {
					f.Op("VMOVDQU64", scale[i].At(0), b.X())
					f.Op("VPANDD", unsigned.X(), b.X(), spare.X())
					f.Op("VPMAXUB", spare.X(), seen[i].X(), seen[i].X())
					f.Op("VPSHUFB", order.X(), b.X(), b.X())
					f.Op("VPMOVSXBW", b.X(), b.Y())
					f.Op("VPSLLW", 7, b.Y(), b.Y())
					f.Op("VPANDD", mask.Y(), b.Y(), b.Y())
					f.Op("VCVTPH2PS", b.Y(), b)
				} else {
					f.Op("VMOVQ", scale[i].At(0), b.X())
					f.Op("VPMAXUB", b.X(), seen[i].X(), seen[i].X())
					f.Op("VPSHUFB", order.X(), b.X(), b.X())
					f.Op("VPMOVZXBD", b.X(), b)
					f.Op("VPSLLD", 23, b, b)
					f.Op("VPMAXUD", mask, b, b)
				}
				f.Op("VFMADD231PS", b, a, sums[i])
			}
			for i := range w {
				f.Op("ADDQ", digitColumns/2, w[i])
				f.Op("ADDQ", digitColumns/format.columns, scale[i])
			}
			f.Op("ADDQ", digitBytes, x)
		})
		for i := range w {
			sum := part.X()
			sumLanes(f, sums[i], part, spare)
			if nvfp4 {
				f.Op("VMULSS", asm.Table("two8"), sum, sum)
			}
			numbers := f.Label("numbers")
			f.Op("VPCMPEQB", unsigned.X(), seen[i].X(), asm.K1)
			f.Op("KORTESTW", asm.K1, asm.K1)
			f.Op("JZ", numbers)
			f.Op("VMOVSS", asm.Table("quietNaN"), sum)
			f.Mark(numbers)
			if i == 0 {
				f.Op("VMOVSS", sum, y.At(0))
				continue
			}
			f.Op("MOVQ", f.Field(args, ofStream[i]+"Y"), by)
			f.Op("VMOVSS", sum, y.At(0).Index(by, 1))
		}
		f.Op("ADDQ", 4, y)
		f.Op("ADDQ", f.Field(args, "rowStride"), rowW)
		f.Op("ADDQ", f.Field(args, "scaleStride"), rowScale)
	})
	f.Return()
}
