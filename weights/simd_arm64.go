package weights

import "github.com/drafthead/drafthead/hip"

var neon = &vectorLevel{
	lanes: 4, dotsRows: 4, rowsAtOnce: 4,
	dot: [endFormat]func(*dotArgs){
		F32: dotF32NEON, F16: dotF16NEON, BF16: dotBF16NEON, MXFP8: dotMXFP8NEON, INT8: dotINT8NEON,
		MXFP4: dotMXFP4NEON, NVFP4: dotNVFP4NEON,
	},
	dots: [endFormat][maxDots + 1]func(*dotsArgs){
		F32:   {1: dots1F32NEON, 2: dots2F32NEON, 3: dots3F32NEON, 4: dots4F32NEON},
		F16:   {1: dots1F16NEON, 2: dots2F16NEON, 3: dots3F16NEON, 4: dots4F16NEON},
		BF16:  {1: dots1BF16NEON, 2: dots2BF16NEON, 3: dots3BF16NEON, 4: dots4BF16NEON},
		INT8:  {1: dots1INT8NEON, 2: dots2INT8NEON, 3: dots3INT8NEON, 4: dots4INT8NEON},
		MXFP8: {1: dots1MXFP8NEON, 2: dots2MXFP8NEON, 3: dots3MXFP8NEON, 4: dots4MXFP8NEON},
		MXFP4: {1: dots1MXFP4NEON, 2: dots2MXFP4NEON, 3: dots3MXFP4NEON, 4: dots4MXFP4NEON},
		NVFP4: {1: dots1NVFP4NEON, 2: dots2NVFP4NEON, 3: dots3NVFP4NEON, 4: dots4NVFP4NEON},
	},
	decode: [endFormat]func(*decodeArgs){
		F32: decodeF32NEON, F16: decodeF16NEON, BF16: decodeBF16NEON, MXFP8: decodeMXFP8NEON, INT8: decodeINT8NEON,
		MXFP4: decodeMXFP4NEON, NVFP4: decodeNVFP4NEON,
	},
	product:  [5]func(*productPanelArgs){1: product4x1NEON, 2: product4x2NEON, 3: product4x3NEON, 4: product4x4NEON},
	sumLanes: sumLanesNEON,
}

var neonBF16 = withPairs(neon)

// withPairs returns the level with dot products of bfloat16, and products of two rows with
// two, for one that stands for a value of x.
func withPairs(level *vectorLevel) *vectorLevel {
	l := *level
	l.split[BF16][1], l.split[MXFP8][1] = split1NEON, split1NEON
	l.pairs[BF16][1][1], l.pairs[MXFP8][1][1] = pairs1x1BF16NEON, pairs1x1MXFP8NEON
	l.decodePairs = [endFormat]func(*decodeArgs){BF16: decodeMatrixBF16NEON, MXFP8: decodeMatrixMXFP8NEON}
	l.matrix = &matrixLevel{
		split: splitMatrixNEON,
		pairs: [endFormat][maxPairs + 1]func(*pairsArgs){
			BF16:  {1: matrix1BF16NEON, 2: matrix2BF16NEON, 3: matrix3BF16NEON, 4: matrix4BF16NEON},
			MXFP8: {1: matrix1MXFP8NEON, 2: matrix2MXFP8NEON, 3: matrix3MXFP8NEON, 4: matrix4MXFP8NEON},
		},
		product: [maxMatrixX + 1]func(*productPairsArgs){product8x1MatrixNEON, product8x2MatrixNEON, product8x4MatrixNEON, product8x6MatrixNEON, product8x8MatrixNEON},
	}
	return &l
}

// vectorsOf returns the assembly of a level; nil: plain Go.
func vectorsOf(s hip.SIMD) *vectorLevel {
	switch {
	case s >= hip.SIMDNEONBF16:
		return neonBF16
	case s == hip.SIMDNEON:
		return neon
	}
	return nil
}
