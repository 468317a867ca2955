package moe

import (
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// gateUpTiling is a kernel that multiplies rows rows of x in a block.
type gateUpTiling struct {
	kernel *hip.KernelOf[gateUpSwiGLUArgs]
	rows   int
}

var tiledGateUps = [...]gateUpTiling{
	newGateUpTiling("gate_up_swiglu_tiled_16", 16),
	newGateUpTiling("gate_up_swiglu_tiled_32", 32),
}

func newGateUpTiling(name string, rows int) gateUpTiling {
	tile := weights.TileRows(rows) / 2
	with := func(as arithmetic) hip.Func[gateUpSwiGLUArgs] {
		return func(b *hip.Blocks, a *gateUpSwiGLUArgs) { // tiles of rows count fastest: the first does them all
			perTile := tiles(int(a.Rows), rows)
			gateUpColumns(b, a, tiles(b.First, perTile)*tile, tiles(b.End, perTile)*tile, as)
		}
	}
	return gateUpTiling{hip.NewKernel(name, gateUpSwiGLUTiledSource(), with(definition)).Fast(weights.TiledError, with(host)), rows}
}

func launchGateUpSwiGLUTiled(d hip.Device, w *weights.Matrix, a *gateUpSwiGLUArgs) error {
	t := &tiledGateUps[0]
	if int(a.Rows) > t.rows {
		t = &tiledGateUps[1]
	}
	tile := weights.TileRows(t.rows) / 2
	return t.kernel.Launch(d, hip.Grid{
		Blocks:    tiles(int(a.Out), tile) * tiles(int(a.Rows), t.rows),
		Threads:   weights.TileThreads,
		BlockCost: tile * 2 * w.RowBytes(),
	}, a)
}
