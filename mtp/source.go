package mtp

import _ "embed"

var (
	//go:embed embed.hip
	embedHIP string
	//go:embed convert.hip
	widenHIP string
	//go:embed argmax.hip
	argmaxHIP string
)
