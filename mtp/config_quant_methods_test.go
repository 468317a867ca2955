package mtp_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// fourBitFolder returns a golden case of routed experts in four bits, in memory.
func fourBitFolder(t *testing.T, name string) fstest.MapFS {
	t.Helper()
	root := "golden"
	if name == "tiny-mxfp4-quark" || name == "tiny-nvfp4" {
		root = "golden-next"
	}
	from, files := os.DirFS(hiptest.Shared(t, root, name)), fstest.MapFS{}
	for _, name := range []string{"config.json", "model.safetensors", "hf_quant_config.json"} {
		if data, err := fs.ReadFile(from, name); err == nil {
			files[name] = &fstest.MapFile{Data: data}
		}
	}
	return files
}

func notesOf(t *testing.T, files fstest.MapFS) []string {
	t.Helper()
	_, report, err := mtp.InspectFS(files, mtp.Options{})
	require.NoError(t, err)
	return report.Notes
}

const decides = ": what a tensor is stored as decides"

// TestWritersOfFourBits: what each writer says of its own checkpoint is understood, and true
// of it, so that there is nothing to note but who wrote it.
func TestWritersOfFourBits(t *testing.T) {
	const modelOptFile = "hf_quant_config.json says MIXED_PRECISION" + decides
	for name, notes := range map[string][]string{
		"tiny-mxfp4":          {"quantization_config is by compressed-tensors" + decides},
		"tiny-mxfp4-quark":    {"quantization_config is by quark" + decides},
		"tiny-nvfp4":          {"quantization_config is by compressed-tensors" + decides},
		"tiny-nvfp4-modelopt": {"quantization_config is by modelopt MIXED_PRECISION" + decides, modelOptFile},
	} {
		files := fourBitFolder(t, name)
		require.Equal(t, notes, notesOf(t, files), name)
		if files["hf_quant_config.json"] != nil {
			files["config.json"].Data = editedConfig(t, string(files["config.json"].Data), remove("quantization_config"))
			require.Equal(t, []string{modelOptFile}, notesOf(t, files), "the file says the same as the config")
			files["hf_quant_config.json"].Data = bytes.ReplaceAll(files["hf_quant_config.json"].Data, []byte("NVFP4"), []byte("MXFP4"))
			require.Equal(t, []string{modelOptFile,
				"12 weights are stored as NVFP4 though hf_quant_config.json says MXFP4, model.mtp.layers.0.transformer_layer.block_sparse_moe.experts.0.w1.weight first: read as stored"},
				notesOf(t, files))
		}
	}
}

// TestQuantizationContradicts: a config that is not true of the files is a note that says
// how many weights it is about, and the format is the one that is stored. There are 12
// matrices of routed experts, and 10 others but for the router.
func TestQuantizationContradicts(t *testing.T) {
	const routed = `"re:.*block_sparse_moe.experts.*"`
	compressed := func(format, targets, ignore string) edit {
		return set("quantization_config", fmt.Sprintf(
			`{"quant_method": "compressed-tensors", "format": %q, "config_groups": {"group_0": {"targets": [%s]}}, "ignore": [%s]}`, format, targets, ignore))
	}
	group := func(weights string) edit {
		return set("quantization_config", `{"quant_method": "compressed-tensors", "config_groups": {"group_0": {"targets": [`+routed+`], "weights": `+weights+`}}}`)
	}
	quark := func(weight, more string) edit {
		return set("quantization_config", `{"quant_method": "quark", "exclude": ["*self_attn*", "*shared_experts*", "*gate", "model.mtp.layers.0.eh_proj"], "global_quant_config": {"weight": `+weight+`}`+more+`}`)
	}
	const fp4 = `{"dtype": "fp4", "qscheme": "per_group", "group_size": 32, "scale_format": "e8m0"}`
	modelOpt := func(algorithm, exclude, layers string) edit {
		return set("quantization_config", fmt.Sprintf(`{"quant_method": "modelopt", "quant_algo": %s, "exclude_modules": [%s], "quantized_layers": {%s}}`, algorithm, exclude, layers))
	}
	const others = `"lm_head", "model.mtp.layers.?.eh_proj", "*.self_attn*", "*shared_experts*", "model.mtp.layers.[0-9].*.gate"`
	for name, c := range map[string]struct {
		folder string
		edit   edit
		notes  []string // contained in one note each
	}{
		"true, by targets": {"tiny-mxfp4", compressed("mxfp4-pack-quantized", routed, ""), nil},
		"true, of a group": {"tiny-nvfp4", group(`{"num_bits": 4, "type": "float", "group_size": 16.0}`), nil},
		"true, by a class of which a part is named": {"tiny-nvfp4-modelopt", set("quantization_config", `{"quant_method": "compressed-tensors", "format": "mixed-precision",
			"config_groups": {"a": {"format": "mxfp8-quantized", "targets": ["Linear"]}, "b": {"format": "nvfp4-pack-quantized", "targets": [`+routed+`]}}, "ignore": ["re:.*\\.gate$"]}`),
			[]string{"hf_quant_config.json says MIXED_PRECISION"}},
		"another group size": {"tiny-nvfp4", group(`{"num_bits": 4, "type": "float", "group_size": 32}`),
			[]string{"12 weights are stored as NVFP4 though quantization_config by compressed-tensors says MXFP4, model.mtp.layers.0.transformer_layer.block_sparse_moe.experts.0.w1.weight_packed first"}},
		"integers": {"tiny-mxfp4", group(`{"num_bits": 4, "type": "int", "group_size": 32}`), []string{"by compressed-tensors, in a format \"without a name\" that is not known" + decides}},
		"another format": {"tiny-mxfp4", compressed("nvfp4-pack-quantized", routed, ""),
			[]string{"12 weights are stored as MXFP4 though quantization_config by compressed-tensors says NVFP4"}},
		"a format that nobody knows": {"tiny-mxfp4", compressed("fp3-pack-quantized", routed, ""),
			[]string{`in a format "fp3-pack-quantized" that is not known` + decides}},
		"experts ignored": {"tiny-mxfp4", compressed("mxfp4-pack-quantized", routed, `"re:.*experts\\.0\\."`),
			[]string{"3 weights are stored as MXFP4 though quantization_config by compressed-tensors leaves them as they are"}},
		"a parent ignored is not its children": {"tiny-mxfp4", compressed("mxfp4-pack-quantized", routed, `"model.mtp.layers.0.transformer_layer.block_sparse_moe"`), nil},
		"everything targeted": {"tiny-mxfp4", compressed("mxfp4-pack-quantized", `"Linear"`, `"re:.*gate$"`),
			[]string{"10 weights are stored unquantized though quantization_config by compressed-tensors says MXFP4, model.mtp.layers.0.eh_proj.weight first: read as stored"}},
		"a bad pattern": {"tiny-mxfp4", compressed("mxfp4-pack-quantized", `"re:(unclosed"`, ""), []string{"ignore is not compared with what is stored: bad pattern"}},
		"nothing targeted": {"tiny-mxfp4", compressed("mxfp4-pack-quantized", "", ""),
			[]string{"12 weights are stored as MXFP4 though quantization_config by compressed-tensors leaves them as they are"}},

		"quark, wildcards": {"tiny-mxfp4-quark", quark(fp4, ""), nil},
		"quark, mx":        {"tiny-mxfp4-quark", quark(`{"dtype": "mx", "mx_element_dtype": "fp4"}`, ""), nil},
		"quark, by class":  {"tiny-mxfp4-quark", quark("null", `, "layer_type_quant_config": {"nn.Linear": {"weight": `+fp4+`}}`), nil},
		"quark, 8 bits":    {"tiny-mxfp4-quark", quark(`{"dtype": "fp8_e4m3", "qscheme": "per_tensor"}`, ""), []string{"12 weights are stored as MXFP4 though quantization_config by quark says FP8"}},
		"quark, a layer of 8 bits": {"tiny-mxfp4-quark", quark(fp4, `, "layer_quant_config": {"*experts.3.w2": {"weight": {"dtype": "fp8_e4m3", "group_size": 32, "scale_format": "e8m0"}}}`),
			[]string{"1 weights are stored as MXFP4 though quantization_config by quark says MXFP8"}},
		"quark, a type that nobody knows": {"tiny-mxfp4-quark", quark(`{"dtype": "int3"}`, ""), []string{`by quark, in a format "int3" that is not known` + decides}},
		"quark, two steps":                {"tiny-mxfp4-quark", quark(`[`+fp4+`, `+fp4+`]`, ""), []string{`in a format "of several steps" that is not known` + decides}},

		"modelopt, all":      {"tiny-nvfp4", modelOpt(`"NVFP4"`, others, ""), nil},
		"modelopt, nothing":  {"tiny-nvfp4", modelOpt("null", others, ""), []string{"12 weights are stored as NVFP4 though quantization_config by modelopt leaves them as they are"}},
		"modelopt, excluded": {"tiny-nvfp4", modelOpt(`"NVFP4"`, `"model.mtp*"`, ""), []string{"12 weights are stored as NVFP4 though quantization_config by modelopt NVFP4 leaves them"}},
		"modelopt, mixed": {"tiny-nvfp4", modelOpt(`"MIXED_PRECISION"`, "", `"language_model.model.mtp.layers.0.transformer_layer.block_sparse_moe.experts.0.w1": {"quant_algo": "FP8_PB_WO"}, "model.mtp.layers.0.transformer_layer.block_sparse_moe.experts.0.w3": {"quant_algo": "W4A16_NVFP4"}`),
			[]string{"10 weights are stored as NVFP4 though quantization_config by modelopt MIXED_PRECISION leaves", "1 weights are stored as NVFP4 though quantization_config by modelopt MIXED_PRECISION says FP8"}},
		"modelopt, awq": {"tiny-nvfp4", modelOpt(`"W4A16_AWQ"`, others, ""), []string{`by modelopt W4A16_AWQ, in a format "W4A16_AWQ" that is not known` + decides}},
		"mxfp8": {"tiny-mxfp4", set("quantization_config", `{"quant_method": "mxfp8", "ignored_layers": ["model.mtp.layers.0.eh_proj", "re:.*self_attn|.*shared_experts|.*gate"]}`),
			[]string{"12 weights are stored as MXFP4 though the config does not list them in ignored_layers"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := fourBitFolder(t, c.folder)
			_, plain, err := mtp.InspectFS(files, mtp.Options{})
			require.NoError(t, err)
			files["config.json"].Data = editedConfig(t, string(files["config.json"].Data), c.edit)
			_, report, err := mtp.InspectFS(files, mtp.Options{})
			require.NoError(t, err)
			require.Equal(t, plain.Formats, report.Formats)
			if len(report.Notes) > 0 && strings.HasSuffix(report.Notes[0], decides) && !strings.Contains(report.Notes[0], "known") {
				require.Contains(t, report.Notes[0], "quantization_config is by ")
				report.Notes = report.Notes[1:]
			}
			require.Len(t, report.Notes, len(c.notes), "%q", report.Notes)
			all := strings.Join(report.Notes, "\n")
			for _, note := range c.notes {
				require.Contains(t, all, note)
			}
		})
	}
}

// TestManyQuantizedLayers: a file of ModelOpt names each module of a target by itself, tens
// of thousands of them, before those of the head.
func TestManyQuantizedLayers(t *testing.T) {
	files := fourBitFolder(t, "tiny-nvfp4-modelopt")
	var target strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&target, `"model.layers.%d.mlp.experts.%d.down_proj": {"quant_algo": "NVFP4", "group_size": 16}, `, i/128, i%128)
	}
	const list = `"quantized_layers": {`
	for _, name := range []string{"config.json", "hf_quant_config.json"} {
		text := string(files[name].Data)
		require.Contains(t, text, list)
		files[name].Data = []byte(strings.Replace(text, list, list+target.String(), 1))
	}
	require.Len(t, notesOf(t, files), 2, "who wrote it, by the config and the file")
	files["config.json"].Data = editedConfig(t, string(files["config.json"].Data), remove("quantization_config"))
	require.Len(t, notesOf(t, files), 1)
}
