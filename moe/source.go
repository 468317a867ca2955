package moe

import (
	_ "embed"

	"github.com/drafthead/drafthead/weights"
)

var (
	//go:embed route.hip
	routeHIP string
	//go:embed group_by_expert.hip
	groupByExpertHIP string
	//go:embed gate_up.h
	gateUpH string
	//go:embed experts.hip
	expertsHIP string
	//go:embed gate_up_swiglu.hip
	gateUpSwiGLUHIP string
	//go:embed moe_combine.hip
	combineHIP string
)

// gateUpSource is the HIP side of [gateUp].
func gateUpSource() string { return weights.KernelSource() + gateUpH }

// gateUpGroupSource is the same for kernels on warpgroups.
func gateUpGroupSource() string { return weights.WarpgroupSource() + gateUpH }
