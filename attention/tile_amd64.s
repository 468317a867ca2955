#include "textflag.h"
#include "go_asm.h"

// The value at d of the four keys at b, and the accumulators of their scores.
#define FOUR_KEYS(b, z0, z1, z2, z3) \
	VFMADD231PS.BCST (b), Z31, z0       \
	VFMADD231PS.BCST (b)(BX*1), Z31, z1 \
	VFMADD231PS.BCST (b)(BX*2), Z31, z2 \
	VFMADD231PS.BCST (b)(DX*1), Z31, z3 \
	ADDQ             $4, b

// func keyScoresAVX512(a *keyScoresArgs)
TEXT ·keyScoresAVX512(SB), NOSPLIT, $8-8
	MOVQ a+0(FP), SI
	MOVQ keyScoresArgs_Scores(SI), DI
	MOVQ keyScoresArgs_Keys(SI), R8
	MOVQ keyScoresArgs_Stride(SI), BX
	MOVQ keyScoresArgs_Groups(SI), AX
	MOVQ keyScoresArgs_Ahead(SI), R11
	MOVQ keyScoresArgs_AheadStep(SI), R12
	MOVQ AX, groups-8(SP)
	SHLQ $2, BX
	LEAQ (BX)(BX*2), DX

group:
	MOVQ a+0(FP), SI
	MOVQ keyScoresArgs_Dim(SI), CX
	MOVQ keyScoresArgs_Queries(SI), SI
	MOVQ R8, AX
	LEAQ (AX)(BX*4), R9
	LEAQ (R9)(BX*4), R10
	LEAQ (R10)(BX*4), R13
	LEAQ (R13)(BX*4), R8
	VPXORD Z0, Z0, Z0
	VPXORD Z1, Z1, Z1
	VPXORD Z2, Z2, Z2
	VPXORD Z3, Z3, Z3
	VPXORD Z4, Z4, Z4
	VPXORD Z5, Z5, Z5
	VPXORD Z6, Z6, Z6
	VPXORD Z7, Z7, Z7
	VPXORD Z8, Z8, Z8
	VPXORD Z9, Z9, Z9
	VPXORD Z10, Z10, Z10
	VPXORD Z11, Z11, Z11
	VPXORD Z12, Z12, Z12
	VPXORD Z13, Z13, Z13
	VPXORD Z14, Z14, Z14
	VPXORD Z15, Z15, Z15

value:
	VMOVUPS    (SI), Z31
	FOUR_KEYS(AX, Z0, Z1, Z2, Z3)
	FOUR_KEYS(R9, Z4, Z5, Z6, Z7)
	PREFETCHT0 (R11)
	FOUR_KEYS(R10, Z8, Z9, Z10, Z11)
	FOUR_KEYS(R13, Z12, Z13, Z14, Z15)
	ADDQ       R12, R11
	ADDQ       $64, SI
	DECQ       CX
	JNZ        value
	VMOVUPS Z0, 0(DI)
	VMOVUPS Z1, 64(DI)
	VMOVUPS Z2, 128(DI)
	VMOVUPS Z3, 192(DI)
	VMOVUPS Z4, 256(DI)
	VMOVUPS Z5, 320(DI)
	VMOVUPS Z6, 384(DI)
	VMOVUPS Z7, 448(DI)
	VMOVUPS Z8, 512(DI)
	VMOVUPS Z9, 576(DI)
	VMOVUPS Z10, 640(DI)
	VMOVUPS Z11, 704(DI)
	VMOVUPS Z12, 768(DI)
	VMOVUPS Z13, 832(DI)
	VMOVUPS Z14, 896(DI)
	VMOVUPS Z15, 960(DI)
	ADDQ    $1024, DI
	DECQ    groups-8(SP)
	JNZ     group
	VZEROUPPER
	RET

// func keyScoresAVX2(a *keyScoresArgs)
TEXT ·keyScoresAVX2(SB), NOSPLIT, $0-8
	MOVQ a+0(FP), SI
	MOVQ keyScoresArgs_Scores(SI), DI
	MOVQ keyScoresArgs_Keys(SI), R8
	MOVQ keyScoresArgs_Stride(SI), BX
	MOVQ keyScoresArgs_Groups(SI), R9
	MOVQ keyScoresArgs_Ahead(SI), R11
	MOVQ keyScoresArgs_AheadStep(SI), R12
	SHLQ $2, R9  // four keys at a time
	SHRQ $2, R12
	SHLQ $2, BX
	LEAQ (BX)(BX*2), DX

four:
	MOVQ a+0(FP), SI
	MOVQ keyScoresArgs_Dim(SI), CX
	MOVQ keyScoresArgs_Queries(SI), SI
	MOVQ R8, AX
	LEAQ (R8)(BX*4), R8
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7

value:
	VMOVUPS      (SI), Y8
	VMOVUPS      32(SI), Y9
	VBROADCASTSS (AX), Y10
	VBROADCASTSS (AX)(BX*1), Y11
	VBROADCASTSS (AX)(BX*2), Y12
	VBROADCASTSS (AX)(DX*1), Y13
	VFMADD231PS  Y8, Y10, Y0
	VFMADD231PS  Y9, Y10, Y1
	VFMADD231PS  Y8, Y11, Y2
	VFMADD231PS  Y9, Y11, Y3
	VFMADD231PS  Y8, Y12, Y4
	VFMADD231PS  Y9, Y12, Y5
	VFMADD231PS  Y8, Y13, Y6
	VFMADD231PS  Y9, Y13, Y7
	PREFETCHT0   (R11)
	ADDQ         R12, R11
	ADDQ         $4, AX
	ADDQ         $64, SI
	DECQ         CX
	JNZ          value
	VMOVUPS Y0, 0(DI)
	VMOVUPS Y1, 32(DI)
	VMOVUPS Y2, 64(DI)
	VMOVUPS Y3, 96(DI)
	VMOVUPS Y4, 128(DI)
	VMOVUPS Y5, 160(DI)
	VMOVUPS Y6, 192(DI)
	VMOVUPS Y7, 224(DI)
	ADDQ    $256, DI
	DECQ    R9
	JNZ     four
	VZEROUPPER
	RET

// The weight of a head, and the accumulators of its 32 sums.
#define WEIGH_512(at, even, odd) \
	VBROADCASTSS at(DX), Z18      \
	VFMADD231PS  Z16, Z18, even   \
	VFMADD231PS  Z17, Z18, odd

#define STORE_512(z0, z1) \
	VADDPS  (DI), z0, z0    \
	VADDPS  64(DI), z1, z1  \
	VMOVUPS z0, (DI)        \
	VMOVUPS z1, 64(DI)      \
	ADDQ    BX, DI

// func addValuesAVX512(a *addValuesArgs)
TEXT ·addValuesAVX512(SB), NOSPLIT, $0-8
	MOVQ a+0(FP), AX
	MOVQ addValuesArgs_Dim(AX), BX
	MOVQ addValuesArgs_Sums(AX), R10
	MOVQ addValuesArgs_Weights(AX), R9
	MOVQ addValuesArgs_Ahead(AX), R11
	MOVQ addValuesArgs_AheadStep(AX), R12
	SHLQ $2, BX
	MOVQ $2, R13

half: // heads 0 … 7, then 8 … 15
	XORQ R8, R8

columns: // 32 of them, at byte R8
	MOVQ addValuesArgs_Values(AX), SI
	MOVQ addValuesArgs_Keys(AX), CX
	MOVQ R9, DX
	ADDQ R8, SI
	VPXORD Z0, Z0, Z0
	VPXORD Z1, Z1, Z1
	VPXORD Z2, Z2, Z2
	VPXORD Z3, Z3, Z3
	VPXORD Z4, Z4, Z4
	VPXORD Z5, Z5, Z5
	VPXORD Z6, Z6, Z6
	VPXORD Z7, Z7, Z7
	VPXORD Z8, Z8, Z8
	VPXORD Z9, Z9, Z9
	VPXORD Z10, Z10, Z10
	VPXORD Z11, Z11, Z11
	VPXORD Z12, Z12, Z12
	VPXORD Z13, Z13, Z13
	VPXORD Z14, Z14, Z14
	VPXORD Z15, Z15, Z15

key:
	VMOVUPS    (SI), Z16
	VMOVUPS    64(SI), Z17
	WEIGH_512(0, Z0, Z1)
	WEIGH_512(4, Z2, Z3)
	WEIGH_512(8, Z4, Z5)
	WEIGH_512(12, Z6, Z7)
	WEIGH_512(16, Z8, Z9)
	WEIGH_512(20, Z10, Z11)
	WEIGH_512(24, Z12, Z13)
	WEIGH_512(28, Z14, Z15)
	PREFETCHT0 (R11)
	ADDQ       R12, R11
	ADDQ       $64, DX
	ADDQ       BX, SI
	DECQ       CX
	JNZ        key
	LEAQ       (R10)(R8*1), DI
	STORE_512(Z0, Z1)
	STORE_512(Z2, Z3)
	STORE_512(Z4, Z5)
	STORE_512(Z6, Z7)
	STORE_512(Z8, Z9)
	STORE_512(Z10, Z11)
	STORE_512(Z12, Z13)
	STORE_512(Z14, Z15)
	ADDQ       $128, R8
	CMPQ       R8, BX
	JLT        columns
	LEAQ       (R10)(BX*8), R10
	ADDQ       $32, R9
	DECQ       R13
	JNZ        half
	VZEROUPPER
	RET

#define WEIGH_256(at, y0, y1) \
	VBROADCASTSS at(DX), Y10   \
	VFMADD231PS  Y8, Y10, y0   \
	VFMADD231PS  Y9, Y10, y1

#define STORE_256(y0, y1) \
	VADDPS  (DI), y0, y0    \
	VADDPS  32(DI), y1, y1  \
	VMOVUPS y0, (DI)        \
	VMOVUPS y1, 32(DI)      \
	ADDQ    BX, DI

// func addValuesAVX2(a *addValuesArgs)
TEXT ·addValuesAVX2(SB), NOSPLIT, $0-8
	MOVQ a+0(FP), AX
	MOVQ addValuesArgs_Dim(AX), BX
	MOVQ addValuesArgs_Sums(AX), R10
	MOVQ addValuesArgs_Weights(AX), R9
	MOVQ addValuesArgs_Ahead(AX), R11
	MOVQ addValuesArgs_AheadStep(AX), R12
	SHRQ $2, R12
	SHLQ $2, BX
	MOVQ $4, R13

quarter: // four heads
	XORQ R8, R8

columns: // 16 of them, at byte R8
	MOVQ addValuesArgs_Values(AX), SI
	MOVQ addValuesArgs_Keys(AX), CX
	MOVQ R9, DX
	ADDQ R8, SI
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7

key:
	VMOVUPS    (SI), Y8
	VMOVUPS    32(SI), Y9
	WEIGH_256(0, Y0, Y1)
	WEIGH_256(4, Y2, Y3)
	WEIGH_256(8, Y4, Y5)
	WEIGH_256(12, Y6, Y7)
	PREFETCHT0 (R11)
	ADDQ       R12, R11
	ADDQ       $64, DX
	ADDQ       BX, SI
	DECQ       CX
	JNZ        key
	LEAQ       (R10)(R8*1), DI
	STORE_256(Y0, Y1)
	STORE_256(Y2, Y3)
	STORE_256(Y4, Y5)
	STORE_256(Y6, Y7)
	ADDQ       $64, R8
	CMPQ       R8, BX
	JLT        columns
	LEAQ       (R10)(BX*4), R10
	ADDQ       $16, R9
	DECQ       R13
	JNZ        quarter
	VZEROUPPER
	RET

// func widenAVX512(dst *float32, src *hip.BF16, n int)
TEXT ·widenAVX512(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	XORQ BX, BX

loop:
	VPMOVZXWD (SI)(BX*2), Z0
	VPMOVZXWD 32(SI)(BX*2), Z1
	VPSLLD    $16, Z0, Z0
	VPSLLD    $16, Z1, Z1
	VMOVUPS   Z0, (DI)(BX*4)
	VMOVUPS   Z1, 64(DI)(BX*4)
	ADDQ      $32, BX
	CMPQ      BX, CX
	JLT       loop
	VZEROUPPER
	RET

// func widenAVX2(dst *float32, src *hip.BF16, n int)
TEXT ·widenAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	XORQ BX, BX

loop:
	VPMOVZXWD (SI)(BX*2), Y0
	VPMOVZXWD 16(SI)(BX*2), Y1
	VPSLLD    $16, Y0, Y0
	VPSLLD    $16, Y1, Y1
	VMOVUPS   Y0, (DI)(BX*4)
	VMOVUPS   Y1, 32(DI)(BX*4)
	ADDQ      $16, BX
	CMPQ      BX, CX
	JLT       loop
	VZEROUPPER
	RET

// The upper half of x rounded to nearest even, in the lower half; NaN keeps its
// upper bits and becomes quiet. Y13 holds 0x7fff, Y14 1, Y15 0x40.
#define NARROW(x, t, nan) \
	VCMPPS    $3, x, x, nan \
	VPSRLD    $16, x, t     \
	VPAND     Y14, t, Y4    \
	VPADDD    Y13, x, x     \
	VPADDD    Y4, x, x      \
	VPSRLD    $16, x, x     \
	VPOR      Y15, t, t     \
	VBLENDVPS nan, t, x, x

// func narrowAVX2(dst *hip.BF16, src *float32, n int)
TEXT ·narrowAVX2(SB), NOSPLIT, $0-24
	MOVQ         dst+0(FP), DI
	MOVQ         src+8(FP), SI
	MOVQ         n+16(FP), CX
	MOVL         $0x7fff, AX
	VMOVD        AX, X13
	VPBROADCASTD X13, Y13
	MOVL         $1, AX
	VMOVD        AX, X14
	VPBROADCASTD X14, Y14
	MOVL         $0x40, AX
	VMOVD        AX, X15
	VPBROADCASTD X15, Y15
	XORQ         BX, BX

loop:
	VMOVUPS   (SI)(BX*4), Y0
	VMOVUPS   32(SI)(BX*4), Y1
	NARROW(Y0, Y2, Y3)
	NARROW(Y1, Y2, Y3)
	VPACKUSDW Y1, Y0, Y0
	VPERMQ    $0xd8, Y0, Y0
	VMOVDQU   Y0, (DI)(BX*2)
	ADDQ      $16, BX
	CMPQ      BX, CX
	JLT       loop
	VZEROUPPER
	RET

// func rotateAVX2(low, high, cos, sin *float32, n int)
TEXT ·rotateAVX2(SB), NOSPLIT, $0-40
	MOVQ low+0(FP), DI
	MOVQ high+8(FP), SI
	MOVQ cos+16(FP), AX
	MOVQ sin+24(FP), DX
	MOVQ n+32(FP), CX
	XORQ BX, BX

loop:
	VMOVUPS     (DI)(BX*4), Y0
	VMOVUPS     (SI)(BX*4), Y1
	VMOVUPS     (AX)(BX*4), Y2
	VMOVUPS     (DX)(BX*4), Y3
	VMULPS      Y3, Y1, Y4
	VMULPS      Y3, Y0, Y5
	VFMSUB231PS Y2, Y0, Y4 // low·cos − high·sin
	VFMADD231PS Y2, Y1, Y5 // high·cos + low·sin
	VMOVUPS     Y4, (DI)(BX*4)
	VMOVUPS     Y5, (SI)(BX*4)
	ADDQ        $8, BX
	CMPQ        BX, CX
	JLT         loop
	VZEROUPPER
	RET
