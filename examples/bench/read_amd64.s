#include "textflag.h"

// One line of 64 bytes: prefetch the one that is ahead, take this one in.
#define LINE512(off, acc) \
	PREFETCHT0 off(SI)(DX*1) \
	VPXORQ off(SI), acc, acc

#define LINE256(off, a, b) \
	PREFETCHT0 off(SI)(DX*1) \
	VPXOR off(SI), a, a \
	VPXOR (off+32)(SI), b, b

// func xorAVX512(out *[8]uint64, data *byte, n, ahead int)
TEXT ·xorAVX512(SB), NOSPLIT, $0-32
	MOVQ out+0(FP), DI
	MOVQ data+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ ahead+24(FP), DX
	VPXORQ Z0, Z0, Z0
	VPXORQ Z1, Z1, Z1
	VPXORQ Z2, Z2, Z2
	VPXORQ Z3, Z3, Z3

loop:
	LINE512(0, Z0)
	LINE512(64, Z1)
	LINE512(128, Z2)
	LINE512(192, Z3)
	LINE512(256, Z0)
	LINE512(320, Z1)
	LINE512(384, Z2)
	LINE512(448, Z3)
	ADDQ $512, SI
	SUBQ $512, CX
	JNZ loop

	VPXORQ Z1, Z0, Z0
	VPXORQ Z3, Z2, Z2
	VPXORQ Z2, Z0, Z0
	VMOVDQU64 Z0, (DI)
	VZEROUPPER
	RET

// func xorAVX2(out *[8]uint64, data *byte, n, ahead int)
TEXT ·xorAVX2(SB), NOSPLIT, $0-32
	MOVQ out+0(FP), DI
	MOVQ data+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ ahead+24(FP), DX
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3

loop:
	LINE256(0, Y0, Y1)
	LINE256(64, Y2, Y3)
	LINE256(128, Y0, Y1)
	LINE256(192, Y2, Y3)
	LINE256(256, Y0, Y1)
	LINE256(320, Y2, Y3)
	LINE256(384, Y0, Y1)
	LINE256(448, Y2, Y3)
	ADDQ $512, SI
	SUBQ $512, CX
	JNZ loop

	VPXOR Y2, Y0, Y0
	VPXOR Y3, Y1, Y1
	VMOVDQU Y0, (DI)
	VMOVDQU Y1, 32(DI)
	VZEROUPPER
	RET
