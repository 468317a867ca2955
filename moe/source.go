package moe

import _ "embed"

var (
	//go:embed router.hip
	routeHIP string
	//go:embed group.hip
	groupByExpertHIP string
	//go:embed swiglu.hip
	swiGLUHIP string
	//go:embed gateup.hip
	gateUpHIP string
	//go:embed experts.hip
	expertsHIP string
	//go:embed shared.hip
	gateUpSwiGLUHIP string
	//go:embed combine.hip
	combineHIP string
)
