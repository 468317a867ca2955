package synthetic

import (
	"slices"

	"github.com/drafthead/drafthead/weights"
)

// quantization returns the quantization_config of a checkpoint in which the ignored modules
// are left as they are; nil of one that is not quantized.
func quantization(format weights.Format, ignored []string) any {
	ignored = slices.Sorted(slices.Values(ignored))
	switch format {
	case weights.MXFP8:
		return &mxfp8Config{
			QuantMethod: "mxfp8", ActivationScheme: "dynamic", Fmt: "e4m3", ScaleFmt: "ue8m0",
			WeightBlockSize: [2]int{1, 32}, IgnoredLayers: ignored,
		}
	case weights.MXFP4:
		return compressed("mxfp4-pack-quantized", groupWeights{NumBits: 4, Strategy: "group", GroupSize: 32, ScaleDtype: "torch.uint8"}, ignored)
	case weights.NVFP4:
		return compressed("nvfp4-pack-quantized", groupWeights{NumBits: 4, Strategy: "tensor_group", GroupSize: 16, ScaleDtype: "torch.float8_e4m3fn"}, ignored)
	}
	return nil
}

// mxfp8Config is that of the released checkpoint.
type mxfp8Config struct {
	QuantMethod      string   `json:"quant_method"`
	ActivationScheme string   `json:"activation_scheme"`
	Fmt              string   `json:"fmt"`
	ScaleFmt         string   `json:"scale_fmt"`
	WeightBlockSize  [2]int   `json:"weight_block_size"`
	IgnoredLayers    []string `json:"ignored_layers"`
}

// compressedConfig is that of compressed-tensors.
type compressedConfig struct {
	ConfigGroups       map[string]configGroup `json:"config_groups"`
	Format             string                 `json:"format"`
	Ignore             []string               `json:"ignore"`
	QuantMethod        string                 `json:"quant_method"`
	QuantizationStatus string                 `json:"quantization_status"`
}

// configGroup says how the modules that match one of its targets are stored.
type configGroup struct {
	Format           string       `json:"format"`
	InputActivations *struct{}    `json:"input_activations"`
	Targets          []string     `json:"targets"`
	Weights          groupWeights `json:"weights"`
}

type groupWeights struct {
	Dynamic    bool   `json:"dynamic"`
	GroupSize  int    `json:"group_size"`
	NumBits    int    `json:"num_bits"`
	ScaleDtype string `json:"scale_dtype"`
	Strategy   string `json:"strategy"`
	Symmetric  bool   `json:"symmetric"`
	Type       string `json:"type"`
}

// compressed says that routed experts are stored in a format, and other modules as MXFP8.
func compressed(format string, w groupWeights, ignored []string) *compressedConfig {
	group := func(format string, w groupWeights, target string) configGroup {
		w.Symmetric, w.Type = true, "float"
		return configGroup{Format: format, Targets: []string{target}, Weights: w}
	}
	return &compressedConfig{
		ConfigGroups: map[string]configGroup{
			"group_0": group(format, w, `re:.*block_sparse_moe\.experts\.\d+\.w[123]$`),
			"group_1": group("mxfp8-quantized", groupWeights{NumBits: 8, Strategy: "group", GroupSize: 32, ScaleDtype: "torch.uint8"}, "Linear"),
		},
		Format: "mixed-precision", Ignore: ignored, QuantMethod: "compressed-tensors", QuantizationStatus: "compressed",
	}
}
