#include "textflag.h"
#include "go_asm.h"

// How far ahead of the keys in use memory is asked for, in bytes.
#define PREFETCH_BYTES 4096

// What all bestScores have in common: keys of stride BX from R8 on, the last one
// at AX, CX of them left; memory is asked for at R12 until R13.
#define BEGIN(size_shift, keys) \
	MOVQ a+0(FP), DX                \
	MOVQ keys(DX), R8               \
	MOVQ bestScoresArgs_Dim(DX), BX \
	MOVQ bestScoresArgs_Keys(DX), CX \
	SHLQ $size_shift, BX            \
	MOVQ CX, R13                    \
	IMULQ BX, R13                   \
	ADDQ R8, R13                    \
	MOVQ R13, AX                    \
	SUBQ BX, AX                     \
	LEAQ PREFETCH_BYTES(R8), R12

// A key after the last one is the last one: it changes no maximum.
#define NEXT_KEY(from, key) \
	LEAQ    (from)(BX*1), key \
	CMPQ    key, AX           \
	CMOVQHI AX, key

// Behind the last key the memory at Next is asked for.
#define TURN_PREFETCH \
	CMPQ R12, R13                     \
	JLT  same                         \
	MOVQ a+0(FP), DX                  \
	MOVQ bestScoresArgs_Next(DX), R12 \
	MOVQ $-1, R13                     \
	SHRQ $1, R13


// a0 becomes, in each 128 bits, a partial sum of each of a0 … a3.
#define TRANSPOSE_ADD(a0, a1, a2, a3) \
	VUNPCKLPS a1, a0, Z16  \
	VUNPCKHPS a1, a0, Z17  \
	VUNPCKLPS a3, a2, Z18  \
	VUNPCKHPS a3, a2, Z19  \
	VADDPS    Z17, Z16, a0 \
	VADDPS    Z19, Z18, a2 \
	VUNPCKLPD a2, a0, Z16  \
	VUNPCKHPD a2, a0, Z17  \
	VADDPS    Z17, Z16, a0

// Quarters of a and b are summed in pairs: those of a, then those of b.
#define ADD_QUARTERS(a, b) \
	VSHUFF32X4 $0x88, b, a, Z16 \
	VSHUFF32X4 $0xdd, b, a, Z17 \
	VADDPS     Z17, Z16, a

// The accumulators Z0 … Z15, of four keys and of each the four heads, make a
// vector of scores, which joins the maxima of Z30 and the NaN of K1.
#define JOIN_512 \
	TRANSPOSE_ADD(Z0, Z1, Z2, Z3)     \
	TRANSPOSE_ADD(Z4, Z5, Z6, Z7)     \
	TRANSPOSE_ADD(Z8, Z9, Z10, Z11)   \
	TRANSPOSE_ADD(Z12, Z13, Z14, Z15) \
	ADD_QUARTERS(Z0, Z4)  \
	ADD_QUARTERS(Z8, Z12) \
	ADD_QUARTERS(Z0, Z8)  \
	VCMPPS $3, Z0, Z0, K2 \
	KORW   K2, K1, K1     \
	VMAXPS Z30, Z0, Z30

#define MINUS_INFINITY 0xff800000

#define START_512 \
	MOVL         $MINUS_INFINITY, DX \
	VPBROADCASTD DX, Z30             \
	KXORW        K1, K1, K1

// The best of each head of the four keys' scores; all ones are a NaN.
#define FINISH_512 \
	VPMOVM2D      K1, Z0       \
	VEXTRACTF64X4 $1, Z30, Y1  \
	VEXTRACTF64X4 $1, Z0, Y2   \
	VMAXPS        Y1, Y30, Y1  \
	VORPS         Y2, Y0, Y0   \
	VEXTRACTF128  $1, Y1, X2   \
	VEXTRACTF128  $1, Y0, X3   \
	VMAXPS        X2, X1, X1   \
	VORPS         X3, X0, X0   \
	VORPS         X1, X0, X0   \
	MOVQ          a+0(FP), DX  \
	VMOVUPS       X0, bestScoresArgs_Best(DX) \
	VZEROUPPER

// The 32 values of a key at DI: its products with four heads.
#define KEY_BF16_512(key, s0, s1, s2, s3) \
	VMOVUPS     (key)(DI*1), Z28 \
	VPSLLD      $16, Z28, Z29    \
	VPANDD      Z31, Z28, Z28    \
	VFMADD231PS Z20, Z29, s0     \
	VFMADD231PS Z21, Z29, s1     \
	VFMADD231PS Z22, Z29, s2     \
	VFMADD231PS Z23, Z29, s3     \
	VFMADD231PS Z24, Z28, s0     \
	VFMADD231PS Z25, Z28, s1     \
	VFMADD231PS Z26, Z28, s2     \
	VFMADD231PS Z27, Z28, s3

// func bestScoresBF16AVX512(a *bestScoresArgs)
TEXT ·bestScoresBF16AVX512(SB), NOSPLIT, $0-8
	BEGIN(1, bestScoresArgs_BF16)
	START_512
	MOVL         $0xffff0000, DX
	VPBROADCASTD DX, Z31

four:
	NEXT_KEY(R8, R9)
	NEXT_KEY(R9, R10)
	NEXT_KEY(R10, R11)
	MOVQ a+0(FP), DX
	MOVQ bestScoresArgs_Queries(DX), SI
	XORQ DI, DI
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

values:
	VMOVUPS    (SI), Z20
	VMOVUPS    64(SI), Z21
	VMOVUPS    128(SI), Z22
	VMOVUPS    192(SI), Z23
	VMOVUPS    256(SI), Z24
	VMOVUPS    320(SI), Z25
	VMOVUPS    384(SI), Z26
	VMOVUPS    448(SI), Z27
	PREFETCHT0 (R12)
	PREFETCHT0 64(R12)
	PREFETCHT0 128(R12)
	PREFETCHT0 192(R12)
	KEY_BF16_512(R8, Z0, Z1, Z2, Z3)
	KEY_BF16_512(R9, Z4, Z5, Z6, Z7)
	KEY_BF16_512(R10, Z8, Z9, Z10, Z11)
	KEY_BF16_512(R11, Z12, Z13, Z14, Z15)
	ADDQ       $256, R12
	ADDQ       $512, SI
	ADDQ       $64, DI
	CMPQ       DI, BX
	JLT        values
	JOIN_512
	TURN_PREFETCH

same:
	LEAQ (R8)(BX*4), R8
	SUBQ $4, CX
	JGT  four
	FINISH_512
	RET

// The 16 values of a key at DI: its products with four heads.
#define KEY_F32_512(key, s0, s1, s2, s3) \
	VMOVUPS     (key)(DI*1), Z28 \
	VFMADD231PS Z20, Z28, s0     \
	VFMADD231PS Z21, Z28, s1     \
	VFMADD231PS Z22, Z28, s2     \
	VFMADD231PS Z23, Z28, s3

// func bestScoresF32AVX512(a *bestScoresArgs)
TEXT ·bestScoresF32AVX512(SB), NOSPLIT, $0-8
	BEGIN(2, bestScoresArgs_F32)
	START_512

four:
	NEXT_KEY(R8, R9)
	NEXT_KEY(R9, R10)
	NEXT_KEY(R10, R11)
	MOVQ a+0(FP), DX
	MOVQ bestScoresArgs_Queries(DX), SI
	XORQ DI, DI
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

values:
	VMOVUPS    (SI), Z20
	VMOVUPS    64(SI), Z21
	VMOVUPS    128(SI), Z22
	VMOVUPS    192(SI), Z23
	PREFETCHT0 (R12)
	PREFETCHT0 64(R12)
	PREFETCHT0 128(R12)
	PREFETCHT0 192(R12)
	KEY_F32_512(R8, Z0, Z1, Z2, Z3)
	KEY_F32_512(R9, Z4, Z5, Z6, Z7)
	KEY_F32_512(R10, Z8, Z9, Z10, Z11)
	KEY_F32_512(R11, Z12, Z13, Z14, Z15)
	ADDQ       $256, R12
	ADDQ       $256, SI
	ADDQ       $64, DI
	CMPQ       DI, BX
	JLT        values
	JOIN_512
	TURN_PREFETCH

same:
	LEAQ (R8)(BX*4), R8
	SUBQ $4, CX
	JGT  four
	FINISH_512
	RET

// The accumulators Y0 … Y3 and Y4 … Y7, of two keys and of each the four heads,
// make a vector of scores, which joins the maxima of Y13 and the NaN of Y14.
#define JOIN_256 \
	VHADDPS    Y1, Y0, Y0        \
	VHADDPS    Y3, Y2, Y2        \
	VHADDPS    Y5, Y4, Y4        \
	VHADDPS    Y7, Y6, Y6        \
	VHADDPS    Y2, Y0, Y0        \
	VHADDPS    Y6, Y4, Y4        \
	VPERM2F128 $0x20, Y4, Y0, Y1 \
	VPERM2F128 $0x31, Y4, Y0, Y2 \
	VADDPS     Y2, Y1, Y1        \
	VCMPPS     $3, Y1, Y1, Y2    \
	VORPS      Y2, Y14, Y14      \
	VMAXPS     Y13, Y1, Y13

#define START_256 \
	MOVL         $MINUS_INFINITY, DX \
	VMOVD        DX, X13             \
	VBROADCASTSS X13, Y13            \
	VXORPS       Y14, Y14, Y14

#define FINISH_256 \
	VEXTRACTF128 $1, Y13, X1  \
	VEXTRACTF128 $1, Y14, X2  \
	VMAXPS       X1, X13, X0  \
	VORPS        X2, X14, X1  \
	VORPS        X1, X0, X0   \
	MOVQ         a+0(FP), DX  \
	VMOVUPS      X0, bestScoresArgs_Best(DX) \
	VZEROUPPER

// A head's eight values at q: their products with those of two keys.
#define HEAD_256(q, key0, key1, s0, s1) \
	VMOVUPS     q(SI), Y12    \
	VFMADD231PS key0, Y12, s0 \
	VFMADD231PS key1, Y12, s1

// 16 values of two keys at DI, of which even ones have their queries at q.
#define KEYS_BF16_256(at, q) \
	VMOVUPS at(R8)(DI*1), Y8   \
	VMOVUPS at(R9)(DI*1), Y10  \
	VPSLLD  $16, Y8, Y9        \
	VPSLLD  $16, Y10, Y11      \
	VPAND   Y15, Y8, Y8        \
	VPAND   Y15, Y10, Y10      \
	HEAD_256(q, Y9, Y11, Y0, Y4)       \
	HEAD_256(q+64, Y9, Y11, Y1, Y5)    \
	HEAD_256(q+128, Y9, Y11, Y2, Y6)   \
	HEAD_256(q+192, Y9, Y11, Y3, Y7)   \
	HEAD_256(q+256, Y8, Y10, Y0, Y4)   \
	HEAD_256(q+320, Y8, Y10, Y1, Y5)   \
	HEAD_256(q+384, Y8, Y10, Y2, Y6)   \
	HEAD_256(q+448, Y8, Y10, Y3, Y7)

// func bestScoresBF16AVX2(a *bestScoresArgs)
TEXT ·bestScoresBF16AVX2(SB), NOSPLIT, $0-8
	BEGIN(1, bestScoresArgs_BF16)
	START_256
	MOVL         $0xffff0000, DX
	VMOVD        DX, X15
	VPBROADCASTD X15, Y15

two:
	NEXT_KEY(R8, R9)
	MOVQ a+0(FP), DX
	MOVQ bestScoresArgs_Queries(DX), SI
	XORQ DI, DI
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7

values:
	PREFETCHT0 (R12)
	PREFETCHT0 64(R12)
	KEYS_BF16_256(0, 0)
	KEYS_BF16_256(32, 32)
	ADDQ       $128, R12
	ADDQ       $512, SI
	ADDQ       $64, DI
	CMPQ       DI, BX
	JLT        values
	JOIN_256
	TURN_PREFETCH

same:
	LEAQ (R8)(BX*2), R8
	SUBQ $2, CX
	JGT  two
	FINISH_256
	RET

// 8 values of two keys at DI.
#define KEYS_F32_256(at, q) \
	VMOVUPS at(R8)(DI*1), Y8  \
	VMOVUPS at(R9)(DI*1), Y10 \
	HEAD_256(q, Y8, Y10, Y0, Y4)     \
	HEAD_256(q+64, Y8, Y10, Y1, Y5)  \
	HEAD_256(q+128, Y8, Y10, Y2, Y6) \
	HEAD_256(q+192, Y8, Y10, Y3, Y7)

// func bestScoresF32AVX2(a *bestScoresArgs)
TEXT ·bestScoresF32AVX2(SB), NOSPLIT, $0-8
	BEGIN(2, bestScoresArgs_F32)
	START_256

two:
	NEXT_KEY(R8, R9)
	MOVQ a+0(FP), DX
	MOVQ bestScoresArgs_Queries(DX), SI
	XORQ DI, DI
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7

values:
	PREFETCHT0 (R12)
	PREFETCHT0 64(R12)
	KEYS_F32_256(0, 0)
	KEYS_F32_256(32, 32)
	ADDQ       $128, R12
	ADDQ       $256, SI
	ADDQ       $64, DI
	CMPQ       DI, BX
	JLT        values
	JOIN_256
	TURN_PREFETCH

same:
	LEAQ (R8)(BX*2), R8
	SUBQ $2, CX
	JGT  two
	FINISH_256
	RET
