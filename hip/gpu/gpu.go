// Package gpu lets a program open GPUs. Import it only for its effect:
//
//	import _ "github.com/drafthead/drafthead/hip/gpu"
//
// Then hip.Open opens GPUs of AMD through HIP and GPUs of NVIDIA through the CUDA driver.
// It looks for the vendors' libraries at run time; the build needs none of them.
//
// A program that imports it cannot be linked statically: loading the vendors' libraries
// takes the system's dynamic loader. A program without it, built with CGO_ENABLED=0, starts
// in an empty file system.
package gpu

import (
	"github.com/drafthead/drafthead/hip/internal/gpu"
	"github.com/drafthead/drafthead/hip/internal/registry"
)

func init() { registry.SetOpener(gpu.Opener{}) }
