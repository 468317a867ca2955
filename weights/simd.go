package weights

import "unsafe"

// vectorLevel is the assembly of a level of vector instructions. What a format has
// none of is nil.
type vectorLevel struct {
	lanes       int // float32 values of a vector
	dotsRows    int // rows of weights that dots takes side by side
	rowsAtOnce  int // rows of x that a product takes
	dot         [endFormat]func(*dotArgs)
	dots        [endFormat][maxDots + 1]func(*dotsArgs) // by rows of x
	decode      [endFormat]func(*decodeArgs)
	product     [5]func(*productPanelArgs) // by rows of x
	sumLanes    func(*sumLanesArgs)
	prefetch    func(data *byte, lines int) // asks for lines of 64 bytes; may be nil
	digits      [endFormat]func(*dotDigitsArgs)
	streamTiles [endFormat][maxStreamTiles + 1]func(*streamTilesArgs) // by tiles of columns

	decodeTiles   [endFormat]func(*decodeTilesArgs)
	multiplyTiles [setTiles + 1]func(*multiplyTilesArgs) // by tiles of a set

	evenOdd func(*evenOddArgs) // the order that BF16 wants of x; nil: that of the columns

	// By pairs of bfloat16, for formats whose values have no more bits. With matrix rows of
	// x, but for one alone, are multiplied two together, and panels have rows two together.
	split        [endFormat][maxParts + 1]func(*splitArgs)               // by parts of x
	pairs        [endFormat][maxParts + 1][maxPairs + 1]func(*pairsArgs) // by parts and rows of x
	decodePairs  [endFormat]func(*decodeArgs)
	productPairs [maxPanelX + 1]func(*productPairsArgs) // by rows of x
	matrix       *matrixLevel                           // may be nil
}

// matrixLevel is the functions of two rows of x together, of one part.
type matrixLevel struct {
	split   func(*splitArgs)
	pairs   [endFormat][maxPairs + 1]func(*pairsArgs) // by pairs of rows of x
	product [maxMatrixX + 1]func(*productPairsArgs)   // likewise; 0: of one row
}

// The arguments of the assembly. Columns are counted in chunks, strides in bytes.

type dotArgs struct {
	w, scale               *byte
	x, y                   *float32
	rows, chunks           int
	rowStride, scaleStride int
}

// maxStreamTiles is the tiles of columns that streamTiles takes at most.
const maxStreamTiles = 3

// maxDots is the rows of x that dots takes at most.
const maxDots = 4

type dotsArgs struct {
	w, scale                        *byte
	x, y                            *float32 // y: [rows][rows of x], and room for 4 more
	groups                          int      // of dotsRows rows
	chunks                          int
	rowStride, scaleStride, xStride int
	special                         int // set to 1, see the function
	//lint:ignore U1000 the assembly uses it
	saved [3]uintptr // of the function's own
}

type decodeArgs struct {
	panel                               unsafe.Pointer // [rows] rows of float32 or bfloat16, or pairs of them
	w, scale                            *byte
	next                                uintptr // prefetched: where the next panel is
	rows, chunks                        int     // rows may be pairs of them
	panelStride, rowStride, scaleStride int
	special                             int // set to 1, see the function
}

type productPanelArgs struct {
	panel, x, sums       *float32
	chunks               int
	panelStride, xStride int
}

type sumLanesArgs struct {
	sums, y *float32
	n       int
}

type streamTilesArgs struct {
	w, scale               *byte
	panel                  *uint16  // [32] rows, streamStride values apart
	next                   int      // bytes from the last columns of a row to what is prefetched
	columns                *uint16  // tiles, columnStride bytes apart
	sums                   *float32 // [32][tiles·16]
	rows, blocks           int      // blocks of streamColumns columns
	rowStride, scaleStride int
	special                int // set to 1, see the function
	columnStride           int
	other                  *uint16 // a second panel
	//lint:ignore U1000 the assembly uses it
	step int // of the function's own, as what follows
	//lint:ignore U1000 the assembly uses it
	saved [2]uintptr
}

const (
	streamColumns = 128 // the columns of a panel
	streamStride  = streamColumns + 32
)

type packDigitsArgs struct {
	x       *float32
	digits  *byte // [groups][digitBytes]
	groups  int   // of digitColumns columns
	special int   // set to 1, see the function
}

// dotDigitsArgs are three runs of as many rows, which lie some bytes after the first.
type dotDigitsArgs struct {
	w, scale                     *byte
	digits                       *byte // as packDigits makes them
	y                            *float32
	rows, groups                 int
	rowStride, scaleStride       int
	second, secondScale, secondY int
	third, thirdScale, thirdY    int
}

type packTilesArgs struct {
	tiles, rows          *uint16
	steps, stride, apart int // apart: bytes from tile to tile
}

// decodeTilesArgs: a panel is [blocks·4][32] rows of 32 bfloat16.
type decodeTilesArgs struct {
	w, scale               *byte
	panel                  *uint16
	rows, blocks           int // blocks of streamColumns columns
	rowStride, scaleStride int
	ahead                  int // bytes from what is decoded to what is prefetched
	special                int // set to 1, see the function
}

// multiplyTilesArgs: panels follow each other, as do the sums of each set of columns with
// each panel: tiles [2][tiles of the set], of [rows of weights][rows of x].
type multiplyTilesArgs struct {
	panel, columns *uint16
	sums           *float32
	buffer         *float32 // [4·256]
	panels, sets   int
	parts, steps   int
	setStride      int // bytes from set to set of columns
	partStride     int // and from part to part
	to             int // sumsSet, sumsGoOn or sumsAdd
}

// What multiplyTiles does with sums: it sets them, it goes on with them, or it adds sums of
// its own to them, which rounds less.
const sumsSet, sumsGoOn, sumsAdd = 0, 1, 2

type transposeTileArgs struct {
	tile, y *float32
	stride  int
}

type splitBF16Args struct {
	x              *float32
	high, mid, low *uint16
	chunks         int
}

const (
	maxPairs  = 4 // rows of x that pairs takes at most, or pairs of them
	maxParts  = 2 // and parts of each
	pairsRows = 4 // rows of weights that it takes side by side

	pairsPanelRows    = 8 // rows of weights that productPairs takes
	maxPanelX         = 3 // and of x, at most
	maxMatrixX        = 4 // or pairs of them
	pairsPanelColumns = 3072
	pairsPanelStride  = pairsPanelColumns + 32
)

type splitArgs struct {
	x             *float32
	to            *uint16
	chunks        int
	step, another int // bytes from chunk to chunk of a part, and from part to part
}

type pairsArgs struct {
	w, scale                        *byte
	x                               *uint16  // rows as split has them, or pairs of them, xStride bytes apart
	y                               *float32 // [rows][rows of x]
	groups                          int      // of pairsRows rows
	chunks                          int
	rowStride, scaleStride, xStride int
	//lint:ignore U1000 the assembly uses it
	saved [3]uintptr // of the function's own
}

type productPairsArgs struct {
	panel, x      *uint16 // x: one of the parts
	sums          *float32
	chunks        int
	xStride, step int // bytes from row to row of x, or pair to pair, and from a chunk to the next
	first         int // not 0: sums hold nothing yet
}

type evenOddArgs struct {
	x, to  *float32
	chunks int
}
