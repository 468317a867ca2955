package moe

import (
	_ "embed"

	"github.com/drafthead/drafthead/weights"
)

var (
	//go:embed router.hip
	routeHIP string
	//go:embed group.hip
	groupByExpertHIP string
	//go:embed swiglu.hip
	swiGLUHIP string
	//go:embed gateup.hip
	gateUpHIP string
	//go:embed gateup_tiled.hip
	gateUpTiledHIP string
	//go:embed experts.hip
	expertsHIP string
	//go:embed experts_tiled.hip
	expertsTiledHIP string
	//go:embed shared.hip
	gateUpSwiGLUHIP string
	//go:embed shared_tiled.hip
	gateUpSwiGLUTiledHIP string
	//go:embed combine.hip
	combineHIP string
)

// gateUpSource is what kernels for few rows, and for many, have in common.
func gateUpSource() string { return weights.TilesSource() + swiGLUHIP + gateUpHIP + gateUpTiledHIP }

func expertsSource() string { return gateUpSource() + expertsHIP + expertsTiledHIP }

func gateUpSwiGLUSource() string { return gateUpSource() + gateUpSwiGLUHIP + gateUpSwiGLUTiledHIP }
