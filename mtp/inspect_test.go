package mtp_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// promised says what the config gives as the number of modules; "" removes a key.
func promised(modules, nextn string) []edit {
	return []edit{set("num_mtp_modules", modules), set("num_nextn_predict_layers", nextn)}
}

// TestModules: how many modules are loaded, by what the config promises under two keys,
// what the files hold and what is asked for.
func TestModules(t *testing.T) {
	for name, c := range map[string]struct {
		there          int
		modules, nextn string
		bundled        bool
		ask            int
		loads          int    // 0: refused
		says           string // in a note or in the error
		problems       int
	}{
		"as promised":                         {there: 2, modules: "2", nextn: "1", loads: 2},
		"by the other key":                    {there: 2, modules: "", nextn: "2", loads: 2},
		"the preview's":                       {there: 1, modules: "7", nextn: "1", loads: 1, says: "num_mtp_modules is 7"},
		"the preview's, with its target":      {there: 1, modules: "7", nextn: "1", bundled: true, loads: 1, says: "num_mtp_modules is 7"},
		"the target's":                        {there: 2, modules: "3", nextn: "2", bundled: true, loads: 2, says: "num_mtp_modules is 3"},
		"a head's own":                        {there: 1, modules: "2", nextn: "1", says: "Failed to load MTP layer 1 weights from checkpoint.", problems: 1},
		"neither number":                      {there: 3, modules: "7", nextn: "1", says: "the files hold modules 0, 1 and 2; Options.Modules 3 (-modules 3) loads the first 3; num_nextn_predict_layers is 1", problems: 4},
		"neither number, asked for":           {there: 3, modules: "7", nextn: "1", ask: 3, loads: 3},
		"the first asked for":                 {there: 3, modules: "7", nextn: "1", ask: 1, loads: 1, says: "the first 1 of 3 MTP modules are loaded, as asked for"},
		"more asked for than promised":        {there: 3, modules: "1", nextn: "1", ask: 3, loads: 3},
		"more asked for than there are":       {there: 1, modules: "1", nextn: "1", ask: 2, says: "Failed to load MTP layer 1", problems: 1},
		"more than promised":                  {there: 3, modules: "1", nextn: "3", says: "2 more modules, want num_mtp_modules 1; Options.Modules 3 (-modules 3) loads the first 3: num_nextn_predict_layers is 3", problems: 1},
		"a negative number":                   {there: 1, modules: "1", nextn: "1", ask: -1, says: "Options.Modules is -1", problems: 1},
		"a number larger than any config has": {there: 1, modules: "1", nextn: "1", ask: 65, says: "Options.Modules is 65", problems: 1},
	} {
		t.Run(name, func(t *testing.T) {
			files := synthetic{modules: c.there, bundled: c.bundled, config: promised(c.modules, c.nextn)}.files(t)
			opts := mtp.Options{Modules: c.ask}
			config, report, err := mtp.InspectFS(files, opts)
			head, loadErr := mtp.LoadFS(t.Context(), files, opts)
			if c.loads == 0 {
				require.ErrorContains(t, err, c.says)
				require.EqualError(t, loadErr, err.Error())
				require.Len(t, weights.Problems(err), c.problems, "%v", err)
				return
			}
			require.NoError(t, err)
			require.NoError(t, loadErr)
			require.Equal(t, c.loads, config.NumMTPModules)
			require.Equal(t, c.loads, head.Config().NumMTPModules)
			require.Equal(t, c.says != "", len(report.Notes) > 0, "%q", report.Notes)
			require.Contains(t, report.String(), c.says)
			require.NoError(t, head.Close())
		})
	}
}

// TestTiedLMHead: an lm_head of the file's own is never left out where the config ties it
// to embed_tokens, but where its bytes are the same.
func TestTiedLMHead(t *testing.T) {
	tied := []edit{set("tie_word_embeddings", "true")}
	for name, c := range map[string]struct {
		files fstest.MapFS
		says  string
	}{
		"same bytes": {synthetic{config: tied, tiedCopy: true}.files(t), ""},
		"none":       {synthetic{config: tied, omit: []string{lmHeadName}}.files(t), ""},
		"other":      {synthetic{config: tied}.files(t), "lm_head.weight: not what it is tied to: got F32 [48 32] of other bytes, want the bytes of model.embed_tokens.weight"},
		"bundled":    {synthetic{config: tied, bundled: true}.files(t), "language_model.lm_head.weight: not what"},
		"alone":      {synthetic{config: tied, omit: []string{embedName}}.files(t), "no model.embed_tokens.weight"},
		"with scales": {synthetic{config: tied, tiedCopy: true, kvScales: map[string]float32{"lm_head.weight_scale_inv": 1}}.files(t),
			"lm_head.weight_scale_inv: not what it is tied to"},
	} {
		t.Run(name, func(t *testing.T) {
			_, report, err := mtp.InspectFS(c.files, mtp.Options{})
			head, loadErr := mtp.LoadFS(t.Context(), c.files, mtp.Options{})
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				require.ErrorContains(t, err, "tie_word_embeddings")
				require.EqualError(t, loadErr, err.Error())
				return
			}
			require.NoError(t, err)
			require.NoError(t, loadErr)
			require.NotContains(t, report.String(), "not the head's")
			require.NoError(t, head.Close())
		})
	}
}

// TestOwnNamesAreTaken: a tensor under a name of the head's own is never left to others.
func TestOwnNamesAreTaken(t *testing.T) {
	for _, name := range []string{"lm_head.bias", "lm_head.weight_scale_inv", "model.embed_tokens.bias", "model.mtp.norm.weight", "model.mtp.layers.0.extra"} {
		files := synthetic{kvScales: map[string]float32{name: 1}}.files(t)
		_, _, err := mtp.InspectFS(files, mtp.Options{})
		require.ErrorContains(t, err, name+": no parameter takes the tensor")
	}
}

// renamed returns the weights of a synthetic head with other names.
func renamed(t *testing.T, s synthetic, name func(string) string) fstest.MapFS {
	t.Helper()
	files := s.files(t)
	file, err := safetensors.Open(files, "model.safetensors")
	require.NoError(t, err)
	defer file.Close()
	var tensors []*safetensors.Tensor
	for _, x := range file.Tensors() {
		tensors = append(tensors, safetensors.NewTensor(name(x.Name), x.Dtype, x.Shape, x))
	}
	var data strings.Builder
	require.NoError(t, safetensors.Write(&data, nil, tensors))
	files["model.safetensors"].Data = []byte(data.String())
	return files
}

// TestWhatIsThere: the error of what is missing says what the folder holds in its place.
func TestWhatIsThere(t *testing.T) {
	prefixed := func(prefix, in string) func(string) string {
		return func(name string) string { return strings.Replace(name, prefix, in, 1) }
	}
	for name, c := range map[string]struct {
		files fstest.MapFS
		says  []string
	}{
		"no prefix": {renamed(t, synthetic{}, prefixed("model.mtp.", "mtp.")),
			[]string{"Failed to load MTP layer 0", "mtp.layers.0.enorm.weight", "look alike but for the prefix, as in model.mtp.layers.0.enorm.weight"}},
		"as a layer of the target": {renamed(t, synthetic{}, prefixed("model.mtp.layers.0.", "model.layers.61.")),
			[]string{"Failed to load MTP layer 0", "model.layers.61.eh_proj.weight"}},
		"as the multimodal model": {renamed(t, synthetic{}, prefixed("model.embed_tokens", "model.language_model.embed_tokens")),
			[]string{"model.embed_tokens.weight: tensor is missing", "model.language_model.embed_tokens.weight looks alike but for the prefix"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := mtp.InspectFS(c.files, mtp.Options{})
			for _, text := range c.says {
				require.ErrorContains(t, err, text)
			}
		})
	}
	files := synthetic{}.files(t)
	files["model-mtp.safetensors"] = files["model.safetensors"]
	files["other.safetensors"] = &fstest.MapFile{Data: []byte("junk")}
	delete(files, "model.safetensors")
	files["model.safetensors.index.json"] = &fstest.MapFile{Data: []byte(`{"weight_map": {"vision_tower.x": "vision.safetensors"}}`)}
	_, _, err := mtp.InspectFS(files, mtp.Options{})
	require.ErrorContains(t, err, "model.safetensors.index.json does not name model-mtp.safetensors (")
	require.NotContains(t, err.Error(), "other.safetensors")
}

// TestConfigAsksForMuch: a small config that asks for a million tensors costs little, and
// its error is short.
func TestConfigAsksForMuch(t *testing.T) {
	files := synthetic{config: []edit{set("num_mtp_modules", "64"), set("num_local_experts", "4096"), remove("num_nextn_predict_layers")}}.files(t)
	var one strings.Builder
	var tensors []*safetensors.Tensor
	for i := range 64 {
		tensors = append(tensors, safetensors.NewTensor("model.mtp.layers."+strconv.Itoa(i)+".enorm.weight", safetensors.F32, []int{1}, strings.NewReader("abcd")))
	}
	require.NoError(t, safetensors.Write(&one, nil, tensors))
	all := maps.Clone(files)
	all["model.safetensors"] = &fstest.MapFile{Data: []byte(one.String())}
	for name, files := range map[string]fstest.MapFS{"one module is there": files, "a part of each is there": all} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			before := memory.TotalAlloc
			_, _, err := mtp.InspectFS(files, mtp.Options{})
			require.Error(t, err)
			runtime.ReadMemStats(&memory)
			require.Less(t, memory.TotalAlloc-before, uint64(32<<20))
			require.Less(t, time.Since(start), 5*time.Second)
			require.LessOrEqual(t, len(weights.Problems(err)), 200)
			require.ErrorContains(t, err, fmt.Sprintf("%d", 64-1))
		})
	}
}

// TestOptionsCheckWeights: a head of zeros or NaN after a sound header loads, and is refused
// where values are checked: on a device that uses the file in place, and on one that it
// is uploaded to.
func TestOptionsCheckWeights(t *testing.T) {
	for says, fill := range map[string]byte{"all values are zero": 0, "values are NaN or infinite": 0xff, "": 0x3c} {
		files := synthetic{format: "BF16"}.files(t)
		file, err := safetensors.Open(files, "model.safetensors")
		require.NoError(t, err)
		start := file.Tensors()[0].Offset()
		require.NoError(t, file.Close())
		data := files["model.safetensors"].Data[start:]
		for i := range data {
			data[i] = fill
		}
		dir := t.TempDir()
		for name, file := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), file.Data, 0o600))
		}
		head, err := mtp.Load(t.Context(), dir, mtp.Options{})
		require.NoError(t, err)
		require.NoError(t, head.Close())
		checked := mtp.Options{CheckWeights: true}
		_, _, inspectErr := mtp.Inspect(dir, checked)
		head, placeErr := mtp.Load(t.Context(), dir, checked)
		other, uploadErr := mtp.LoadFS(t.Context(), files, checked)
		if says == "" {
			require.NoError(t, inspectErr)
			require.NoError(t, placeErr)
			require.NoError(t, uploadErr)
			require.NoError(t, head.Close())
			require.NoError(t, other.Close())
			continue
		}
		for _, err := range []error{inspectErr, placeErr, uploadErr} {
			require.ErrorContains(t, err, "lm_head.weight: "+says)
			require.ErrorContains(t, err, "model.mtp.layers.0.eh_proj.weight: "+says)
		}
		require.EqualError(t, placeErr, inspectErr.Error())
	}
}
