#include "textflag.h"
#include "go_asm.h"

// The assembler does not know these instructions.
#define TILE_CONFIG_AX BYTE $0xc4; BYTE $0xe2; BYTE $0x78; BYTE $0x49; BYTE $0x00
#define TILE_RELEASE BYTE $0xc4; BYTE $0xe2; BYTE $0x78; BYTE $0x49; BYTE $0xc0
#define TILE_ZERO(t) BYTE $0xc4; BYTE $0xe2; BYTE $0x7b; BYTE $0x49; BYTE $(0xc0+8*t)

// Tile t = 16 rows of 64 bytes from base (R8 and on, by its number − 8) on, CX apart.
#define TILE_LOAD_CX(base, t) BYTE $0xc4; BYTE $0xc2; BYTE $0x7b; BYTE $0x4b; BYTE $(0x04+8*t); BYTE $(0x08+base)

// Tile t = 16 rows of 64 bytes from BX + at on, DX apart.
#define TILE_LOAD_BX_DX(at, t) BYTE $0xc4; BYTE $0xe2; BYTE $0x7b; BYTE $0x4b; BYTE $(0x84+8*t); BYTE $0x13; LONG $at

// 16 rows of 64 bytes from DI on, DX apart = tile t.
#define TILE_STORE_DI_DX(t) BYTE $0xc4; BYTE $0xe2; BYTE $0x7a; BYTE $0x4b; BYTE $(0x04+8*t); BYTE $0x17

// Tile c += tile a · tile b, of bfloat16 pairs, in float32.
#define TILE_MULTIPLY(b, a, c) BYTE $0xc4; BYTE $0xe2; BYTE $(0x02+8*(15-b)); BYTE $0x5c; BYTE $(0xc0+8*c+a)

// Eight tiles of 16 rows of 64 bytes.
DATA tileConfig<>+0(SB)/8, $1
DATA tileConfig<>+8(SB)/8, $0
DATA tileConfig<>+16(SB)/8, $0x0040004000400040
DATA tileConfig<>+24(SB)/8, $0x0040004000400040
DATA tileConfig<>+32(SB)/8, $0
DATA tileConfig<>+40(SB)/8, $0
DATA tileConfig<>+48(SB)/8, $0x1010101010101010
DATA tileConfig<>+56(SB)/8, $0
GLOBL tileConfig<>(SB), RODATA|NOPTR, $64

#define PREFETCH_8 \
	PREFETCHT1 (R13)    \
	PREFETCHT1 64(R13)  \
	PREFETCHT1 128(R13) \
	PREFETCHT1 192(R13) \
	PREFETCHT1 256(R13) \
	PREFETCHT1 320(R13) \
	PREFETCHT1 384(R13) \
	PREFETCHT1 448(R13) \
	ADDQ       $512, R13

// The three parts of 32 values of the queries, in tiles 4 … 6, with those of 16
// keys, which are loaded once.
#define MULTIPLY_KEYS(group) \
	TILE_LOAD_CX(group, 7)     \
	TILE_MULTIPLY(4, 7, group) \
	PREFETCH_8                 \
	TILE_MULTIPLY(5, 7, group) \
	PREFETCH_8                 \
	TILE_MULTIPLY(6, 7, group)

#define JOIN_ROW(at, best) \
	VMOVUPS at(DI), Z0    \
	VCMPPS  $3, Z0, Z0, K2 \
	KORW    K2, K1, K1    \
	VMAXPS  best, Z0, best

// func bestScoresTiles(a *tileScoresArgs)
TEXT ·bestScoresTiles(SB), NOSPLIT, $0-8
	MOVQ         a+0(FP), SI
	LEAQ         tileConfig<>(SB), AX
	TILE_CONFIG_AX
	MOVL         $0xff800000, AX // −Inf
	VPBROADCASTD AX, Z28
	VMOVAPS      Z28, Z29
	VMOVAPS      Z28, Z30
	VMOVAPS      Z28, Z31
	KXORW        K1, K1, K1
	MOVQ         tileScoresArgs_Dim(SI), CX
	SHLQ         $1, CX
	MOVQ         tileScoresArgs_BF16(SI), R8
	MOVQ         tileScoresArgs_Keys(SI), AX
	MOVQ         $64, DX

keys: // 64 of them
	MOVQ CX, R9
	SHLQ $4, R9
	LEAQ (R8)(R9*2), R10
	LEAQ (R10)(R9*1), R11
	ADDQ R8, R9
	CMPQ AX, $64
	JLE  last
	LEAQ (R8)(CX*8), R13 // the keys after these are read next
	LEAQ (R13)(CX*8), R13
	LEAQ (R13)(CX*8), R13
	LEAQ (R13)(CX*8), R13
	LEAQ (R13)(CX*8), R13
	LEAQ (R13)(CX*8), R13
	LEAQ (R13)(CX*8), R13
	LEAQ (R13)(CX*8), R13
	JMP  begin

last:
	MOVQ tileScoresArgs_Next(SI), R13

begin:
	MOVQ tileScoresArgs_Queries(SI), BX
	MOVQ CX, R12
	TILE_ZERO(0)
	TILE_ZERO(1)
	TILE_ZERO(2)
	TILE_ZERO(3)

values: // 32 of each key
	TILE_LOAD_BX_DX(0, 4)
	TILE_LOAD_BX_DX(1024, 5)
	TILE_LOAD_BX_DX(2048, 6)
	MULTIPLY_KEYS(0)
	MULTIPLY_KEYS(1)
	MULTIPLY_KEYS(2)
	MULTIPLY_KEYS(3)
	ADDQ $3072, BX
	ADDQ $64, R8
	ADDQ $64, R9
	ADDQ $64, R10
	ADDQ $64, R11
	SUBQ $64, R12
	JNZ  values

	MOVQ tileScoresArgs_Scratch(SI), DI
	TILE_STORE_DI_DX(0)
	ADDQ $1024, DI
	TILE_STORE_DI_DX(1)
	ADDQ $1024, DI
	TILE_STORE_DI_DX(2)
	ADDQ $1024, DI
	TILE_STORE_DI_DX(3)
	SUBQ $3072, DI
	MOVQ $16, R12

join:
	JOIN_ROW(0, Z28)
	JOIN_ROW(64, Z29)
	JOIN_ROW(128, Z30)
	JOIN_ROW(192, Z31)
	ADDQ $256, DI
	DECQ R12
	JNZ  join

	MOVQ R11, R8 // behind the last 16 keys' first: 15 more
	MOVQ CX, R12
	SHLQ $4, R12
	SUBQ CX, R12
	ADDQ R12, R8
	SUBQ $64, AX
	JG   keys

	VPMOVM2D K1, Z0 // all ones are a NaN
	VMAXPS   Z29, Z28, Z28
	VMAXPS   Z31, Z30, Z30
	VMAXPS   Z30, Z28, Z28
	VORPS    Z28, Z0, Z0
	VMOVUPS  Z0, tileScoresArgs_Best(SI)
	TILE_RELEASE
	VZEROUPPER
	RET
