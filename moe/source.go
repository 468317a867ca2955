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
	//go:embed experts_gateup.hip
	expertsGateUpHIP string
	//go:embed experts_down.hip
	expertsDownHIP string
	//go:embed experts_tiled.hip
	expertsTiledHIP string
	//go:embed shared.hip
	gateUpSwiGLUHIP string
	//go:embed shared_few.hip
	gateUpSwiGLUFewHIP string
	//go:embed shared_tiled.hip
	gateUpSwiGLUTiledHIP string
	//go:embed combine.hip
	combineHIP string
)

// Kernels with sources of their own compile at the same time.

func gateUpSource() string { return weights.MultiplySource() + swiGLUHIP + gateUpHIP }

func gateUpTiledSource() string {
	return weights.TilesSource() + swiGLUHIP + gateUpHIP + gateUpTiledHIP
}

func expertsGateUpSource() string { return gateUpSource() + expertsHIP + expertsGateUpHIP }

func expertsDownSource() string { return gateUpSource() + expertsHIP + expertsDownHIP }

func expertsTiledSource() string { return gateUpTiledSource() + expertsHIP + expertsTiledHIP }

func gateUpSwiGLUFewSource() string { return gateUpSource() + gateUpSwiGLUHIP + gateUpSwiGLUFewHIP }

func gateUpSwiGLUTiledSource() string {
	return gateUpTiledSource() + gateUpSwiGLUHIP + gateUpSwiGLUTiledHIP
}
