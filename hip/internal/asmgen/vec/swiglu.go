package vec

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// swiGLUFile holds the activation of experts.
func swiGLUFile() *asm.File {
	f := &asm.File{Package: "vec", Name: "swiglu", Doc: "The activation SwiGLU."}
	for _, level := range levels {
		swiGLU(f, level)
	}
	return f
}

// swiGLU writes a function that keeps NaN: MINPS and MAXPS take their second operand, which
// is the first here, if one is NaN. exp(x) of a large x is infinite: with AVX-512 by itself,
// otherwise by a mask.
func swiGLU(file *asm.File, level asm.Level) {
	f := file.Func(level, "swiGLU"+level.Name+"(y, gate, up *float32, n int, c *[5]float32)", doc(level, "swiGLU",
		"sets y[i] = g · 1/(1 + exp(−alpha·g)) · (u + beta) with g = min(gate[i], limit) and u = clamp(up[i], −limit, limit), "+
			"each step in float32, but for alpha·g, which is not rounded. c holds limit, −limit, beta, and −alpha in two parts. "+
			"n is a multiple of 16, at least 16; y may be gate.", ""))
	y, gate, up, n, arg := f.Take(asm.DI), f.Take(asm.SI), f.Take(asm.DX), f.Take(asm.CX), f.Take(asm.AX)
	const most, log2Most = 100, 88.5 // exp of the first is infinite, of the second just not
	r, k, e, p := f.Vector(), f.Vector(), f.Vector(), f.Vector()
	limit, least, alpha, beta, bound := f.Vector(), f.Vector(), f.Vector(), f.Vector(), f.Vector()
	g, alphaLow, low := f.Vector(), f.Vector(), f.Vector()
	f.Op("MOVQ", f.Arg("y"), y)
	f.Op("MOVQ", f.Arg("gate"), gate)
	f.Op("MOVQ", f.Arg("up"), up)
	f.Op("MOVQ", f.Arg("n"), n)
	f.Op("MOVQ", f.Arg("c"), arg)
	f.Op("VBROADCASTSS", arg.At(0), limit)
	f.Op("VBROADCASTSS", arg.At(4), least)
	f.Op("VBROADCASTSS", arg.At(8), beta)
	f.Op("VBROADCASTSS", arg.At(12), alpha)
	f.Op("VBROADCASTSS", arg.At(16), alphaLow)
	if level == asm.AVX512 {
		f.BroadcastFloat(most, arg, bound)
	} else {
		f.BroadcastFloat(log2Most, arg, bound)
	}
	var exponential func()
	var one any
	if level == asm.AVX512 {
		var c expConstants[asm.Vec]
		for i, v := range c.all() {
			*v = f.Vector()
			f.Op("VBROADCASTSS", asm.Table("expTable").Plus(4*i), *v)
		}
		one = c.one
		exponential = func() {
			const less = 1
			f.Op("VCMPPS", less, bound, r, asm.K2)
			f.Op("VMOVAPS.Z", low, asm.K2, low)
			f.Op("VMINPS", r, bound, r)
			c.exponential512(f, r, e, p, asm.K1, low)
		}
	} else {
		over := f.Vector()
		var c expConstants[asm.Mem]
		slots := f.Slots(32, "least", "log2e", "ln2", "ln2Low", "c6", "c5", "c4", "c3", "c2", "one")
		for i, m := range c.all() {
			*m = slots[i]
			f.Op("VBROADCASTSS", asm.Table("expTable").Plus(4*i), r)
			f.Op("VMOVUPS", r, *m)
		}
		one = c.one
		infinity := f.Vector()
		f.Broadcast(0x7f800000, arg, infinity)
		exponential = func() {
			const greater = 0x1e // and ordered
			f.Op("VCMPPS", greater, bound, r, over)
			f.Op("VANDNPS", low, over, low)
			f.Op("VMINPS", r, bound, r)
			c.exponential256(f, r, e, p, k, low)
			f.Op("VBLENDVPS", over, infinity, p, p)
		}
	}
	f.Op("SHRQ", shift(level.Lanes()), n)
	f.Loop("values", n, func() {
		f.Op("VMOVUPS", gate.At(0), g)
		f.Op("VMINPS", g, limit, g)
		f.Op("VMULPS", alpha, g, r)
		f.Op("VMOVAPS", g, low)
		f.Op("VFMSUB213PS", r, alpha, low)
		f.Op("VFMADD231PS", alphaLow, g, low)
		exponential()
		f.Op("VADDPS", one, p, p)
		f.Op("VMOVUPS", one, r)
		f.Op("VDIVPS", p, r, p)
		f.Op("VMULPS", p, g, p)
		f.Op("VMOVUPS", up.At(0), g)
		f.Op("VMAXPS", g, least, g)
		f.Op("VMINPS", g, limit, g)
		f.Op("VADDPS", beta, g, g)
		f.Op("VMULPS", g, p, p)
		f.Op("VMOVUPS", p, y.At(0))
		for _, p := range []asm.GP{gate, up, y} {
			f.Op("ADDQ", level.Bytes, p)
		}
	})
	f.Return()
}

// shift is the binary logarithm of 16 or 8.
func shift(lanes int) int {
	if lanes == 16 {
		return 4
	}
	return 3
}
