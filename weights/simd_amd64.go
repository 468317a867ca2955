package weights

import "github.com/drafthead/drafthead/hip"

//go:generate go run ../hip/internal/asmgen weights

var avx2 = &vectorLevel{
	lanes: 8, dotsRows: 2, rowsAtOnce: 3,
	dot: [endFormat]func(*dotArgs){
		F32: dotF32AVX2, F16: dotF16AVX2, BF16: dotBF16AVX2, MXFP8: dotMXFP8AVX2, INT8: dotINT8AVX2,
		MXFP4: dotMXFP4AVX2, NVFP4: dotNVFP4AVX2,
	},
	dots: [endFormat][maxDots + 1]func(*dotsArgs){
		F32:   {1: dots1F32AVX2, 2: dots2F32AVX2, 3: dots3F32AVX2, 4: dots4F32AVX2},
		F16:   {1: dots1F16AVX2, 2: dots2F16AVX2, 3: dots3F16AVX2, 4: dots4F16AVX2},
		BF16:  {1: dots1BF16AVX2, 2: dots2BF16AVX2, 3: dots3BF16AVX2, 4: dots4BF16AVX2},
		INT8:  {1: dots1INT8AVX2, 2: dots2INT8AVX2, 3: dots3INT8AVX2, 4: dots4INT8AVX2},
		MXFP8: {1: dots1MXFP8AVX2, 2: dots2MXFP8AVX2, 3: dots3MXFP8AVX2, 4: dots4MXFP8AVX2},
		MXFP4: {1: dots1MXFP4AVX2, 2: dots2MXFP4AVX2, 3: dots3MXFP4AVX2, 4: dots4MXFP4AVX2},
		NVFP4: {1: dots1NVFP4AVX2, 2: dots2NVFP4AVX2, 3: dots3NVFP4AVX2, 4: dots4NVFP4AVX2},
	},
	decode: [endFormat]func(*decodeArgs){
		F32: decodeF32AVX2, F16: decodeF16AVX2, BF16: decodeBF16AVX2, MXFP8: decodeMXFP8AVX2, INT8: decodeINT8AVX2,
		MXFP4: decodeMXFP4AVX2, NVFP4: decodeNVFP4AVX2,
	},
	product:  [5]func(*productPanelArgs){1: product4x1AVX2, 2: product4x2AVX2, 3: product4x3AVX2},
	sumLanes: sumLanesAVX2,
	prefetch: prefetchAVX2,
}

var avx512 = &vectorLevel{
	lanes: 16, dotsRows: 4, rowsAtOnce: 4,
	dot: [endFormat]func(*dotArgs){
		F32: dotF32AVX512, F16: dotF16AVX512, BF16: dotBF16AVX512, MXFP8: dotMXFP8AVX512, INT8: dotINT8AVX512,
		MXFP4: dotMXFP4AVX512, NVFP4: dotNVFP4AVX512,
	},
	dots: [endFormat][maxDots + 1]func(*dotsArgs){
		F32:   {1: dots1F32AVX512, 2: dots2F32AVX512, 3: dots3F32AVX512, 4: dots4F32AVX512},
		F16:   {1: dots1F16AVX512, 2: dots2F16AVX512, 3: dots3F16AVX512, 4: dots4F16AVX512},
		BF16:  {1: dots1BF16AVX512, 2: dots2BF16AVX512, 3: dots3BF16AVX512, 4: dots4BF16AVX512},
		INT8:  {1: dots1INT8AVX512, 2: dots2INT8AVX512, 3: dots3INT8AVX512, 4: dots4INT8AVX512},
		MXFP8: {1: dots1MXFP8AVX512, 2: dots2MXFP8AVX512, 3: dots3MXFP8AVX512, 4: dots4MXFP8AVX512},
		MXFP4: {1: dots1MXFP4AVX512, 2: dots2MXFP4AVX512, 3: dots3MXFP4AVX512, 4: dots4MXFP4AVX512},
		NVFP4: {1: dots1NVFP4AVX512, 2: dots2NVFP4AVX512, 3: dots3NVFP4AVX512, 4: dots4NVFP4AVX512},
	},
	decode: [endFormat]func(*decodeArgs){
		F32: decodeF32AVX512, F16: decodeF16AVX512, BF16: decodeBF16AVX512, MXFP8: decodeMXFP8AVX512, INT8: decodeINT8AVX512,
		MXFP4: decodeMXFP4AVX512, NVFP4: decodeNVFP4AVX512,
	},
	product:  [5]func(*productPanelArgs){1: product4x1AVX512, 2: product4x2AVX512, 3: product4x3AVX512, 4: product4x4AVX512},
	sumLanes: sumLanesAVX512,
	prefetch: prefetchAVX2,
	evenOdd:  evenOddAVX512,
}

var (
	avx512VBMI = withTables(avx512)
	avx512BF16 = withPairs(avx512VBMI)
	amx        = withTiles(avx512BF16)
)

// withTables returns the level with permutations and products of bytes.
func withTables(level *vectorLevel) *vectorLevel {
	l := *level
	l.dot[MXFP8], l.decode[MXFP8] = dotMXFP8VBMI, decodeMXFP8VBMI
	l.dots[MXFP8] = [maxDots + 1]func(*dotsArgs){1: dots1MXFP8VBMI, 2: dots2MXFP8VBMI, 3: dots3MXFP8VBMI, 4: dots4MXFP8VBMI}
	l.dot[MXFP4], l.decode[MXFP4] = dotMXFP4VBMI, decodeMXFP4VBMI
	l.dots[MXFP4] = [maxDots + 1]func(*dotsArgs){1: dots1MXFP4VBMI, 2: dots2MXFP4VBMI, 3: dots3MXFP4VBMI, 4: dots4MXFP4VBMI}
	l.dot[NVFP4], l.decode[NVFP4] = dotNVFP4VBMI, decodeNVFP4VBMI
	l.dots[NVFP4] = [maxDots + 1]func(*dotsArgs){1: dots1NVFP4VBMI, 2: dots2NVFP4VBMI, 3: dots3NVFP4VBMI, 4: dots4NVFP4VBMI}
	l.digits = [endFormat]func(*dotDigitsArgs){MXFP4: dotDigitsMXFP4, NVFP4: dotDigitsNVFP4}
	return &l
}

// withPairs returns the level with dot products of pairs of bfloat16.
func withPairs(level *vectorLevel) *vectorLevel {
	l := *level
	l.split = [endFormat][maxParts + 1]func(*splitArgs){
		BF16:  {1: split1BF16, 2: split2BF16},
		MXFP8: {1: split1MXFP8, 2: split2MXFP8},
	}
	l.pairs = [endFormat][maxParts + 1][maxPairs + 1]func(*pairsArgs){
		BF16: {
			1: {1: pairs1x1BF16, 2: pairs2x1BF16, 3: pairs3x1BF16, 4: pairs4x1BF16},
			2: {1: pairs1x2BF16, 2: pairs2x2BF16, 3: pairs3x2BF16, 4: pairs4x2BF16},
		},
		MXFP8: {
			1: {1: pairs1x1MXFP8, 2: pairs2x1MXFP8, 3: pairs3x1MXFP8, 4: pairs4x1MXFP8},
			2: {1: pairs1x2MXFP8, 2: pairs2x2MXFP8, 3: pairs3x2MXFP8, 4: pairs4x2MXFP8},
		},
	}
	l.decodePairs = [endFormat]func(*decodeArgs){BF16: decodePairsBF16, MXFP8: decodePairsMXFP8}
	l.productPairs = [maxPanelX + 1]func(*productPairsArgs){1: product8x1Pairs, 2: product8x2Pairs, 3: product8x3Pairs}
	return &l
}

// withTiles returns the level with tiles of bfloat16.
func withTiles(level *vectorLevel) *vectorLevel {
	l := *level
	l.streamTiles = [endFormat][maxStreamTiles + 1]func(*streamTilesArgs){
		BF16:  {1: streamTiles1BF16, 2: streamTiles2BF16, 3: streamTiles3BF16},
		MXFP8: {1: streamTiles1MXFP8, 2: streamTiles2MXFP8, 3: streamTiles3MXFP8},
	}
	l.decodeTiles = [endFormat]func(*decodeTilesArgs){BF16: decodeTilesBF16, MXFP8: decodeTilesMXFP8}
	l.multiplyTiles = [setTiles + 1]func(*multiplyTilesArgs){1: multiplyTiles1, 2: multiplyTiles2}
	return &l
}

// vectorsOf returns the assembly of a level; nil: plain Go.
func vectorsOf(s hip.SIMD) *vectorLevel {
	switch {
	case s >= hip.SIMDAMX:
		return amx
	case s == hip.SIMDAVX512BF16:
		return avx512BF16
	case s == hip.SIMDAVX512VBMI:
		return avx512VBMI
	case s == hip.SIMDAVX512:
		return avx512
	case s == hip.SIMDAVX2:
		return avx2
	}
	return nil
}
