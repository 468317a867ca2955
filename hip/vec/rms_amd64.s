#include "textflag.h"

// Y0 … Y3 hold strands; X0 becomes their sum.
#define ADD_STRANDS_OF_Y0 \
	VEXTRACTF128 $1, Y0, X1        \
	VADDPS       X1, X0, X0        \
	VPERMILPS    $0x4e, X0, X1     \
	VADDPS       X1, X0, X0        \
	VPERMILPS    $0xb1, X0, X1     \
	VADDPS       X1, X0, X0

// func sumSquaresAVX512(x *float32, n int) float32
TEXT ·sumSquaresAVX512(SB), NOSPLIT, $0-20
	MOVQ   x+0(FP), SI
	MOVQ   n+8(FP), CX
	VXORPS X0, X0, X0
	VXORPS X1, X1, X1
	VXORPS X2, X2, X2
	VXORPS X3, X3, X3

four:
	SUBQ        $64, CX
	JLT         rest
	VMOVUPS     (SI), Z4
	VMOVUPS     64(SI), Z5
	VMOVUPS     128(SI), Z6
	VMOVUPS     192(SI), Z7
	VFMADD231PS Z4, Z4, Z0
	VFMADD231PS Z5, Z5, Z1
	VFMADD231PS Z6, Z6, Z2
	VFMADD231PS Z7, Z7, Z3
	ADDQ        $256, SI
	JMP         four

rest:
	ADDQ $64, CX

one:
	SUBQ        $16, CX
	JLT         done
	VMOVUPS     (SI), Z4
	VFMADD231PS Z4, Z4, Z0
	ADDQ        $64, SI
	JMP         one

done:
	VADDPS        Z1, Z0, Z0
	VADDPS        Z3, Z2, Z2
	VADDPS        Z2, Z0, Z0
	VEXTRACTF64X4 $1, Z0, Y1
	VADDPS        Y1, Y0, Y0
	ADD_STRANDS_OF_Y0
	VMOVSS        X0, ret+16(FP)
	VZEROUPPER
	RET

// func sumSquaresAVX2(x *float32, n int) float32
TEXT ·sumSquaresAVX2(SB), NOSPLIT, $0-20
	MOVQ   x+0(FP), SI
	MOVQ   n+8(FP), CX
	VXORPS X0, X0, X0
	VXORPS X1, X1, X1
	VXORPS X2, X2, X2
	VXORPS X3, X3, X3

four:
	SUBQ        $32, CX
	JLT         rest
	VMOVUPS     (SI), Y4
	VMOVUPS     32(SI), Y5
	VMOVUPS     64(SI), Y6
	VMOVUPS     96(SI), Y7
	VFMADD231PS Y4, Y4, Y0
	VFMADD231PS Y5, Y5, Y1
	VFMADD231PS Y6, Y6, Y2
	VFMADD231PS Y7, Y7, Y3
	ADDQ        $128, SI
	JMP         four

rest: // 16 values or none
	ADDQ        $32, CX
	JZ          done
	VMOVUPS     (SI), Y4
	VMOVUPS     32(SI), Y5
	VFMADD231PS Y4, Y4, Y0
	VFMADD231PS Y5, Y5, Y1

done:
	VADDPS Y1, Y0, Y0
	VADDPS Y3, Y2, Y2
	VADDPS Y2, Y0, Y0
	ADD_STRANDS_OF_Y0
	VMOVSS X0, ret+16(FP)
	VZEROUPPER
	RET

// func weighAVX512(dst, x, w *float32, n int, scale float32)
TEXT ·weighAVX512(SB), NOSPLIT, $0-36
	MOVQ         dst+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         w+16(FP), DX
	MOVQ         n+24(FP), CX
	VBROADCASTSS scale+32(FP), Z31
	MOVL         $0x3f800000, AX // 1
	VPBROADCASTD AX, Z30
	XORQ         BX, BX

loop:
	VADDPS  (DX)(BX*4), Z30, Z0
	VMULPS  (SI)(BX*4), Z31, Z1
	VMULPS  Z0, Z1, Z1
	VMOVUPS Z1, (DI)(BX*4)
	ADDQ    $16, BX
	CMPQ    BX, CX
	JLT     loop
	VZEROUPPER
	RET

// func weighAVX2(dst, x, w *float32, n int, scale float32)
TEXT ·weighAVX2(SB), NOSPLIT, $0-36
	MOVQ         dst+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         w+16(FP), DX
	MOVQ         n+24(FP), CX
	VBROADCASTSS scale+32(FP), Y15
	MOVL         $0x3f800000, AX // 1
	VMOVD        AX, X14
	VBROADCASTSS X14, Y14
	XORQ         BX, BX

loop:
	VADDPS  (DX)(BX*4), Y14, Y0
	VMULPS  (SI)(BX*4), Y15, Y1
	VMULPS  Y0, Y1, Y1
	VMOVUPS Y1, (DI)(BX*4)
	ADDQ    $8, BX
	CMPQ    BX, CX
	JLT     loop
	VZEROUPPER
	RET

// func addAVX512(sum, x *float32, n int)
TEXT ·addAVX512(SB), NOSPLIT, $0-24
	MOVQ sum+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	XORQ BX, BX

loop:
	VMOVUPS (SI)(BX*4), Z0
	VADDPS  (DI)(BX*4), Z0, Z0
	VMOVUPS Z0, (DI)(BX*4)
	ADDQ    $16, BX
	CMPQ    BX, CX
	JLT     loop
	VZEROUPPER
	RET

// func addAVX2(sum, x *float32, n int)
TEXT ·addAVX2(SB), NOSPLIT, $0-24
	MOVQ sum+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	XORQ BX, BX

loop:
	VMOVUPS (SI)(BX*4), Y0
	VADDPS  (DI)(BX*4), Y0, Y0
	VMOVUPS Y0, (DI)(BX*4)
	ADDQ    $8, BX
	CMPQ    BX, CX
	JLT     loop
	VZEROUPPER
	RET
