package moe

import (
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// expertTiling are the kernels that multiply the pairs of an expert rows at a time.
type expertTiling struct {
	rows         int
	gateUp, down *hip.KernelOf[expertsArgs]
}

// tiledExperts are for experts that few pairs picked, and that many did.
var tiledExperts = [...]expertTiling{
	newExpertTiling(16, "experts_gate_up_tiled_16", "experts_down_tiled_16"),
	newExpertTiling(64, "experts_gate_up_tiled_64", "experts_down_tiled_64"),
}

const (
	// tiledPairs is from how many pairs on experts are multiplied in tiles, if there are
	// more than three to two experts: fewer waste most of a tile.
	tiledPairs = 33

	// tiledRows is the same of rows of the shared expert.
	tiledRows = 5

	// narrowPairs is how many pairs an expert may have on average for the narrower
	// tiling: the weights of one that has more than its rows are read more than once.
	narrowPairs = 6
)

func newExpertTiling(rows int, gateUp, down string) expertTiling {
	kernel := func(name string, tile int, multiply func(b *hip.Blocks, a *expertsArgs, tile int, with arithmetic)) *hip.KernelOf[expertsArgs] {
		with := func(as arithmetic) hip.Func[expertsArgs] {
			return func(b *hip.Blocks, a *expertsArgs) { multiply(b, a, tile, as) }
		}
		return hip.NewKernel(name, expertsTiledSource(), with(definition)).Fast(weights.TiledError, with(host))
	}
	return expertTiling{
		rows:   rows,
		gateUp: kernel(gateUp, weights.TileRows(rows)/2, gateUpExperts),
		down:   kernel(down, weights.TileRows(rows), downExperts),
	}
}

// expertTilingFor returns the tiling that a launch is worth, or nil for none.
func expertTilingFor(d hip.Device, w *weights.Matrix, a *expertsArgs) *expertTiling {
	if a.Pairs < tiledPairs || 2*a.Pairs <= 3*a.Experts || !w.Tiled(d, a.X) {
		return nil
	}
	if a.Pairs <= narrowPairs*a.Experts {
		return &tiledExperts[0]
	}
	return &tiledExperts[1]
}

// launchGateUpExperts launches for pairs of which, where single is set, no two have one
// expert.
func launchGateUpExperts(d hip.Device, w *weights.Matrix, a *expertsArgs, single bool) error {
	if single {
		return launchExperts(d, expertsGateUpOne, w, 2, a)
	}
	if t := expertTilingFor(d, w, a); t != nil {
		return launchExpertTiles(d, t.gateUp, hip.Grid{Threads: weights.TileThreads}, weights.TileRows(t.rows)/2, w, 2, a)
	}
	return launchExperts(d, expertsGateUp, w, 2, a)
}

func launchDownExperts(d hip.Device, w *weights.Matrix, a *expertsArgs, single bool) error {
	if single {
		return launchExperts(d, expertsDownOne, w, 1, a)
	}
	if t := expertTilingFor(d, w, a); t != nil {
		return launchExpertTiles(d, t.down, hip.Grid{Threads: weights.TileThreads}, weights.TileRows(t.rows), w, 1, a)
	}
	return launchExperts(d, expertsDown, w, 1, a)
}
