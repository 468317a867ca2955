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
	streamTiles [endFormat][maxStreamTiles + 1]func(*streamTilesArgs) // by tiles of columns
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
	panel                               unsafe.Pointer // [rows] rows of float32 or bfloat16
	w, scale                            *byte
	next                                uintptr // prefetched: where the next panel is
	rows, chunks                        int
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

type packTilesArgs struct {
	tiles, rows   *uint16
	steps, stride int
}

type splitBF16Args struct {
	x              *float32
	high, mid, low *uint16
	chunks         int
}
