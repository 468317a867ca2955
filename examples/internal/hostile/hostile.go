// Package hostile makes checkpoint folders whose names and texts would act on a terminal, for
// the tests of the example programs.
package hostile

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// Text clears the screen, begins lines, goes back, turns the direction of writing, and is
// not UTF-8.
const Text = plainText + "\xff"

const plainText = "x\x1b[2J\nINJECTED\r\x7f\u0085\u202e\u2066\u2028\ufeffy"

// Folders returns folders by what is wrong with them. Their own names are Text too. The one
// of "" is sound.
func Folders(t testing.TB) map[string]string {
	t.Helper()
	folders := make(map[string]string)
	for name, change := range map[string]func(dir string){
		"": func(dir string) {
			edit(t, dir, func(config map[string]any) {
				config[plainText] = plainText
				config["quantization_config"] = map[string]any{"quant_method": "mxfp8", "quant_algo": plainText, "ignored_layers": []any{plainText, "re:(" + plainText}}
			})
			extra(t, dir, "vision_tower."+plainText)
		},
		"method": func(dir string) { edit(t, dir, set("quantization_config", map[string]any{"quant_method": plainText})) },
		"pattern": func(dir string) {
			edit(t, dir, set("quantization_config", map[string]any{"quant_method": "mxfp8", "ignored_layers": []any{"re:(a+)+" + plainText + "\\p{"}}))
		},
		"model_type":          func(dir string) { edit(t, dir, set("model_type", plainText)) },
		"list":                func(dir string) { edit(t, dir, set("hidden_size", []any{plainText})) },
		"object":              func(dir string) { edit(t, dir, set("hidden_size", map[string]any{plainText: 1})) },
		"key":                 func(dir string) { edit(t, dir, set("rope_scaling", map[string]any{plainText: 1})) },
		"tensor":              func(dir string) { extra(t, dir, "model.mtp.layers.0."+plainText) },
		"look-alike":          func(dir string) { extra(t, dir, "lm_head."+plainText) },
		"junk":                func(dir string) { write(t, dir, "model"+Text+".safetensors", Text) },
		"config that is none": func(dir string) { write(t, dir, "config.json", Text) },
		"index that is none":  func(dir string) { write(t, dir, "model.safetensors.index.json", Text) },
		"shard": func(dir string) {
			index, _ := json.Marshal(map[string]any{"weight_map": map[string]any{"lm_head.weight": plainText, "model.mtp.layers.0." + plainText: "a" + plainText}})
			write(t, dir, "model.safetensors.index.json", string(index))
		},
		"header": func(dir string) {
			text := `{"` + "model.mtp." + strings.Trim(strconv.Quote("\u202e\u0085"), `"`) + `": {"dtype": "\u001b", "\u202e": 0}}`
			write(t, dir, Text+".safetensors", string([]byte{byte(len(text)), 0, 0, 0, 0, 0, 0, 0})+text)
		},
		"link": func(dir string) {
			require.NoError(t, os.Symlink(Text+"gone", filepath.Join(dir, Text+".safetensors")))
		},
	} {
		dir := filepath.Join(t.TempDir(), "a"+Text)
		require.NoError(t, os.CopyFS(dir, m3tiny.Checkpoint()))
		require.NoError(t, os.Remove(filepath.Join(dir, "model.safetensors.index.json")))
		change(dir)
		folders[name] = dir
	}
	file := filepath.Join(t.TempDir(), Text)
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	folders["no folder"], folders["nothing"] = file, file+"2"
	return folders
}

// Require checks that nothing of an output would act on a terminal, and no line of it is
// Text's.
func Require(t testing.TB, output string) {
	t.Helper()
	for line := range strings.Lines(output) {
		require.False(t, strings.HasPrefix(line, "INJECTED"), "%q", output)
		for _, c := range strings.TrimSuffix(line, "\n") {
			require.True(t, c == '\t' || strconv.IsPrint(c) && c != '\ufffd', "%q in %q", c, line)
		}
	}
}

func set(key string, value any) func(map[string]any) {
	return func(config map[string]any) { config[key] = value }
}

func edit(t testing.TB, dir string, change func(config map[string]any)) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	require.NoError(t, err)
	var config map[string]any
	require.NoError(t, json.Unmarshal(data, &config))
	if text, ok := config["text_config"].(map[string]any); ok {
		change(text)
	}
	change(config)
	data, err = json.Marshal(config)
	require.NoError(t, err)
	write(t, dir, "config.json", string(data))
}

// extra adds a file with one tensor.
func extra(t testing.TB, dir, tensor string) {
	t.Helper()
	var file bytes.Buffer
	metadata := map[string]string{"format": plainText, plainText: ""}
	require.NoError(t, safetensors.Write(&file, metadata, []*safetensors.Tensor{
		safetensors.NewTensor(tensor, safetensors.U8, []int{1}, strings.NewReader("x")),
	}))
	write(t, dir, "extra"+plainText+".safetensors", file.String())
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}
