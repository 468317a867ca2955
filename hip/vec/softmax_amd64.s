#include "textflag.h"

// Z21 … Z30 hold expTable, Z20 the tops: k is a mask register of its own.
#define LOAD_EXP_TABLE \
	VBROADCASTSS ·expTable+0(SB), Z21  \
	VBROADCASTSS ·expTable+4(SB), Z22  \
	VBROADCASTSS ·expTable+8(SB), Z23  \
	VBROADCASTSS ·expTable+12(SB), Z24 \
	VBROADCASTSS ·expTable+16(SB), Z25 \
	VBROADCASTSS ·expTable+20(SB), Z26 \
	VBROADCASTSS ·expTable+24(SB), Z27 \
	VBROADCASTSS ·expTable+28(SB), Z28 \
	VBROADCASTSS ·expTable+32(SB), Z29 \
	VBROADCASTSS ·expTable+36(SB), Z30

// p = exp(x − top), through r and n.
#define EXP512(x, r, n, p, k) \
	VMOVUPS      x, r           \
	VSUBPS       Z20, r, r      \
	VCMPPS       $0x15, Z21, r, k \
	VMULPS       Z22, r, n      \
	VRNDSCALEPS  $8, n, n       \
	VFNMADD231PS Z23, n, r      \
	VFNMADD231PS Z24, n, r      \
	VMOVAPS      Z25, p         \
	VFMADD213PS  Z26, r, p      \
	VFMADD213PS  Z27, r, p      \
	VFMADD213PS  Z28, r, p      \
	VFMADD213PS  Z29, r, p      \
	VFMADD213PS  Z30, r, p      \
	VFMADD213PS  Z30, r, p      \
	VSCALEFPS.Z  n, p, k, p

// func columnExpAVX512(dst *float32, step int, x *float32, n int, top, sum *[16]float32)
TEXT ·columnExpAVX512(SB), NOSPLIT, $0-48
	MOVQ    dst+0(FP), DI
	MOVQ    step+8(FP), DX
	MOVQ    x+16(FP), SI
	MOVQ    n+24(FP), CX
	MOVQ    top+32(FP), AX
	MOVQ    sum+40(FP), BX
	SHLQ    $2, DX
	VMOVUPS (AX), Z20
	LOAD_EXP_TABLE
	VXORPS  X0, X0, X0
	VXORPS  X1, X1, X1
	VXORPS  X2, X2, X2
	VXORPS  X3, X3, X3

four:
	SUBQ    $4, CX
	JLT     rest
	EXP512((SI), Z4, Z5, Z6, K1)
	EXP512(64(SI), Z7, Z8, Z9, K2)
	EXP512(128(SI), Z10, Z11, Z12, K3)
	EXP512(192(SI), Z13, Z14, Z15, K4)
	VADDPS  Z6, Z0, Z0
	VADDPS  Z9, Z1, Z1
	VADDPS  Z12, Z2, Z2
	VADDPS  Z15, Z3, Z3
	VMOVUPS Z6, (DI)
	ADDQ    DX, DI
	VMOVUPS Z9, (DI)
	ADDQ    DX, DI
	VMOVUPS Z12, (DI)
	ADDQ    DX, DI
	VMOVUPS Z15, (DI)
	ADDQ    DX, DI
	ADDQ    $256, SI
	JMP     four

rest:
	ADDQ $4, CX

one: // the strands take turns in Z0
	SUBQ    $1, CX
	JLT     done
	EXP512((SI), Z4, Z5, Z6, K1)
	VADDPS  Z6, Z0, Z4
	VMOVAPS Z1, Z0
	VMOVAPS Z2, Z1
	VMOVAPS Z3, Z2
	VMOVAPS Z4, Z3
	VMOVUPS Z6, (DI)
	ADDQ    DX, DI
	ADDQ    $64, SI
	JMP     one

done:
	VADDPS  Z1, Z0, Z0
	VADDPS  Z3, Z2, Z2
	VADDPS  Z2, Z0, Z0
	VMOVUPS Z0, (BX)
	VZEROUPPER
	RET

#define LEAST least-320(SP)
#define LOG2E log2e-288(SP)
#define LN2 ln2-256(SP)
#define LN2_LOW ln2_low-224(SP)
#define C6 c6-192(SP)
#define C5 c5-160(SP)
#define C4 c4-128(SP)
#define C3 c3-96(SP)
#define C2 c2-64(SP)
#define ONE one-32(SP)

#define SPREAD(i, slot) \
	VBROADCASTSS ·expTable+4*i(SB), Y0 \
	VMOVUPS      Y0, slot

// p = exp(x − top), through r, n and the mask k.
#define EXP256(x, top, r, n, p, k) \
	VMOVUPS      x, r           \
	VSUBPS       top, r, r      \
	VCMPPS       $0x15, LEAST, r, k \
	VMULPS       LOG2E, r, n    \
	VROUNDPS     $8, n, n       \
	VFNMADD231PS LN2, n, r      \
	VFNMADD231PS LN2_LOW, n, r  \
	VCVTPS2DQ    n, n           \
	VMOVUPS      C6, p          \
	VFMADD213PS  C5, r, p       \
	VFMADD213PS  C4, r, p       \
	VFMADD213PS  C3, r, p       \
	VFMADD213PS  C2, r, p       \
	VFMADD213PS  ONE, r, p      \
	VFMADD213PS  ONE, r, p      \
	VPSLLD       $23, n, n      \
	VPADDD       n, p, p        \
	VANDPS       k, p, p

// func columnExpAVX2(dst *float32, step int, x *float32, n int, top, sum *[16]float32)
TEXT ·columnExpAVX2(SB), NOSPLIT, $320-48
	SPREAD(0, LEAST)
	SPREAD(1, LOG2E)
	SPREAD(2, LN2)
	SPREAD(3, LN2_LOW)
	SPREAD(4, C6)
	SPREAD(5, C5)
	SPREAD(6, C4)
	SPREAD(7, C3)
	SPREAD(8, C2)
	SPREAD(9, ONE)
	MOVQ    dst+0(FP), DI
	MOVQ    step+8(FP), DX
	MOVQ    x+16(FP), SI
	MOVQ    n+24(FP), CX
	MOVQ    top+32(FP), AX
	MOVQ    sum+40(FP), BX
	SHLQ    $2, DX
	VMOVUPS (AX), Y14
	VMOVUPS 32(AX), Y15
	VXORPS  Y0, Y0, Y0 // columns 0 … 7, strand of the next row
	VXORPS  Y1, Y1, Y1 // columns 8 … 15
	VXORPS  Y2, Y2, Y2 // the strand after it
	VXORPS  Y3, Y3, Y3

loop:
	EXP256((SI), Y14, Y4, Y5, Y6, Y7)
	EXP256(32(SI), Y15, Y8, Y9, Y10, Y11)
	VADDPS  Y6, Y0, Y4
	VADDPS  Y10, Y1, Y8
	VMOVAPS Y2, Y0
	VMOVAPS Y3, Y1
	VMOVAPS Y4, Y2
	VMOVAPS Y8, Y3
	VMOVUPS Y6, (DI)
	VMOVUPS Y10, 32(DI)
	ADDQ    DX, DI
	ADDQ    $64, SI
	DECQ    CX
	JNZ     loop
	VADDPS  Y2, Y0, Y0
	VADDPS  Y3, Y1, Y1
	VMOVUPS Y0, (BX)
	VMOVUPS Y1, 32(BX)
	VZEROUPPER
	RET

// func columnMaxAVX512(x *float32, n int, top *[16]float32)
TEXT ·columnMaxAVX512(SB), NOSPLIT, $0-24
	MOVQ         x+0(FP), SI
	MOVQ         n+8(FP), CX
	MOVQ         top+16(FP), DI
	MOVL         $0xff800000, AX // −Inf
	VPBROADCASTD AX, Z0
	VMOVAPS      Z0, Z1
	VMOVAPS      Z0, Z2
	VMOVAPS      Z0, Z3

four:
	SUBQ    $4, CX
	JLT     rest
	VMOVUPS (SI), Z4 // MAXPS takes its second operand, the first here, if one is NaN
	VMOVUPS 64(SI), Z5
	VMOVUPS 128(SI), Z6
	VMOVUPS 192(SI), Z7
	VMAXPS  Z0, Z4, Z0
	VMAXPS  Z1, Z5, Z1
	VMAXPS  Z2, Z6, Z2
	VMAXPS  Z3, Z7, Z3
	ADDQ    $256, SI
	JMP     four

rest:
	ADDQ $4, CX

one:
	SUBQ    $1, CX
	JLT     done
	VMOVUPS (SI), Z4
	VMAXPS  Z0, Z4, Z0
	ADDQ    $64, SI
	JMP     one

done:
	VMAXPS  Z1, Z0, Z0
	VMAXPS  Z3, Z2, Z2
	VMAXPS  Z2, Z0, Z0
	VMOVUPS Z0, (DI)
	VZEROUPPER
	RET

// func columnMaxAVX2(x *float32, n int, top *[16]float32)
TEXT ·columnMaxAVX2(SB), NOSPLIT, $0-24
	MOVQ         x+0(FP), SI
	MOVQ         n+8(FP), CX
	MOVQ         top+16(FP), DI
	MOVL         $0xff800000, AX // −Inf
	VMOVD        AX, X0
	VBROADCASTSS X0, Y0
	VMOVAPS      Y0, Y1
	VMOVAPS      Y0, Y2
	VMOVAPS      Y0, Y3

two:
	SUBQ    $2, CX
	JLT     rest
	VMOVUPS (SI), Y4 // see columnMaxAVX512
	VMOVUPS 32(SI), Y5
	VMOVUPS 64(SI), Y6
	VMOVUPS 96(SI), Y7
	VMAXPS  Y0, Y4, Y0
	VMAXPS  Y1, Y5, Y1
	VMAXPS  Y2, Y6, Y2
	VMAXPS  Y3, Y7, Y3
	ADDQ    $128, SI
	JMP     two

rest: // one row or none
	ADDQ    $2, CX
	JZ      done
	VMOVUPS (SI), Y4
	VMOVUPS 32(SI), Y5
	VMAXPS  Y0, Y4, Y0
	VMAXPS  Y1, Y5, Y1

done:
	VMAXPS  Y2, Y0, Y0
	VMAXPS  Y3, Y1, Y1
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	VZEROUPPER
	RET

// func columnScaleAVX512(x *float32, n int, factor *[16]float32)
TEXT ·columnScaleAVX512(SB), NOSPLIT, $0-24
	MOVQ    x+0(FP), SI
	MOVQ    n+8(FP), CX
	MOVQ    factor+16(FP), AX
	VMOVUPS (AX), Z0

loop:
	VMULPS  (SI), Z0, Z1
	VMOVUPS Z1, (SI)
	ADDQ    $64, SI
	DECQ    CX
	JNZ     loop
	VZEROUPPER
	RET

// func columnScaleAVX2(x *float32, n int, factor *[16]float32)
TEXT ·columnScaleAVX2(SB), NOSPLIT, $0-24
	MOVQ    x+0(FP), SI
	MOVQ    n+8(FP), CX
	MOVQ    factor+16(FP), AX
	VMOVUPS (AX), Y0
	VMOVUPS 32(AX), Y1

loop:
	VMULPS  (SI), Y0, Y2
	VMULPS  32(SI), Y1, Y3
	VMOVUPS Y2, (SI)
	VMOVUPS Y3, 32(SI)
	ADDQ    $64, SI
	DECQ    CX
	JNZ     loop
	VZEROUPPER
	RET

// func firstEqualAVX512(x *float32, n int, value float32) int
TEXT ·firstEqualAVX512(SB), NOSPLIT, $0-32
	MOVQ         x+0(FP), SI
	MOVQ         n+8(FP), CX
	VBROADCASTSS value+16(FP), Z0
	XORQ         BX, BX

loop:
	VCMPPS $0, (SI)(BX*4), Z0, K1
	KMOVW  K1, AX
	TESTL  AX, AX
	JNZ    found
	ADDQ   $16, BX
	CMPQ   BX, CX
	JLT    loop
	MOVQ   CX, ret+24(FP)
	VZEROUPPER
	RET

found:
	BSFL AX, AX
	ADDQ AX, BX
	MOVQ BX, ret+24(FP)
	VZEROUPPER
	RET

// func firstEqualAVX2(x *float32, n int, value float32) int
TEXT ·firstEqualAVX2(SB), NOSPLIT, $0-32
	MOVQ         x+0(FP), SI
	MOVQ         n+8(FP), CX
	VBROADCASTSS value+16(FP), Y0
	XORQ         BX, BX

loop:
	VCMPPS    $0, (SI)(BX*4), Y0, Y1
	VMOVMSKPS Y1, AX
	TESTL     AX, AX
	JNZ       found
	ADDQ      $8, BX
	CMPQ      BX, CX
	JLT       loop
	MOVQ      CX, ret+24(FP)
	VZEROUPPER
	RET

found:
	BSFL AX, AX
	ADDQ AX, BX
	MOVQ BX, ret+24(FP)
	VZEROUPPER
	RET
