// Package gpu gives a program GPUs. Import it for that alone:
//
//	import _ "github.com/drafthead/drafthead/hip/gpu"
//
// Then hip.Open opens AMD's GPUs through HIP and NVIDIA's through the CUDA driver. Their
// libraries are looked for when a GPU is opened; nothing of them is needed to build.
//
// Importing it costs a program its static linking: what loads the vendors' libraries
// needs the system's dynamic loader. A program that runs on the CPU leaves it out and,
// built with CGO_ENABLED=0, starts in an empty file system.
package gpu

import (
	"github.com/drafthead/drafthead/hip/internal/gpu"
	"github.com/drafthead/drafthead/hip/internal/registry"
)

func init() { registry.SetOpener(gpu.Opener{}) }
