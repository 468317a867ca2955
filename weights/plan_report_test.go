package weights

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// reportHead counts easily: every matrix has columns of one block.
var reportHead = headShape{hidden: 32, heads: 2, kvHeads: 1, headDim: 16, inner: 32, experts: 2, vocab: 10}

func reportOf(t *testing.T, p Parallel) *Report {
	t.Helper()
	s := synthesize(headOf(t, reportHead, Parallel{}), mixed)
	for _, name := range []string{"model.layers.3.a", "model.layers.4.a", "model.norm.weight", "language_model.model.norm.weight", "odd\x07name"} {
		add(bytePart(name, "x"))(s)
	}
	fsys := fstest.MapFS{"model.safetensors": {Data: buildFile(s.parts...)}}
	plan, err := NewPlan(openHead(t, fsys), headOf(t, reportHead, p))
	require.NoError(t, err)
	return plan.Report()
}

func TestReport(t *testing.T) {
	r := reportOf(t, Parallel{})
	want := []paramReport{
		{"model.embed_tokens.weight", 1, 10, 32, 640, []string{"F16"}},
		{"model.layers.0.enorm.weight", 1, 32, 1, 128, []string{"F32"}},
		{"model.layers.0.eh_proj.weight", 2, 32, 64, 32*64 + 32*2, []string{"MXFP8"}},
		// q 32 rows and index_q 16 in MXFP8, k and index_k 16 each in BF16, v 16 in F16
		{"model." + attn0 + "qkv_proj.weight", 7, 96, 32, 48*33 + 32*64 + 16*64, []string{"MXFP8", "BF16", "F16"}},
		{"model." + attn0 + "o_proj.weight", 2, 32, 32, 32 * 33, []string{"MXFP8"}},
		{"model." + attn0 + "q_norm.weight", 1, 16, 1, 64, []string{"F32"}},
		{"model." + attn0 + "attn.k_scale", 1, 1, 1, 2, []string{"BF16"}},
		{"model." + attn0 + "attn.v_scale", 1, 1, 1, 2, []string{"F16"}},
		{"model." + moe0 + "e_score_correction_bias", 1, 2, 1, 8, []string{"F32"}},
		{"model." + moe0 + "experts.w13_weight", 6, 128, 32, 2 * (32*33 + 32*128), []string{"MXFP8", "F32"}},
		{"model." + moe0 + "experts.w2_weight", 4, 64, 32, 2 * 32 * 33, []string{"MXFP8"}},
	}
	require.Equal(t, want, r.params)
	require.Equal(t, 1+1+2+7+2+1+1+1+1+6+4, r.Tensors)
	require.Equal(t, int64(320+32+2048+96*32+1024+16+1+1+2+4096+2048), r.Parameters)
	formats := map[string]int64{
		"F16": 640 + 1024 + 2, "BF16": 2048 + 2, "F32": 128 + 64 + 8 + 2*4096,
		"MXFP8": 2048 + 64 + 48*33 + 32*33 + 2*32*33 + 2*32*33,
	}
	require.Equal(t, formats, r.Formats)
	total := int64(0)
	for _, bytes := range formats {
		total += bytes
	}
	require.Equal(t, total, r.Bytes)
	require.Equal(t, map[string]int{"model.layers": 2, "language_model.model.norm": 1, "model.norm": 1, "odd\x07name": 1}, r.Ignored)
}

// TestReportOfARank counts what the rank holds, and no expert of another.
func TestReportOfARank(t *testing.T) {
	rows := func(r *Report) map[string][3]int {
		m := make(map[string][3]int)
		for _, p := range r.params {
			m[p.name] = [3]int{p.tensors, p.rows, p.cols}
		}
		return m
	}
	second := reportOf(t, Parallel{Expert: Shard{1, 2}})
	require.Equal(t, [3]int{3, 64, 32}, rows(second)["model."+moe0+"experts.w13_weight"])
	require.Equal(t, [3]int{2, 32, 32}, rows(second)["model."+moe0+"experts.w2_weight"])
	require.Equal(t, reportOf(t, Parallel{}).Parameters-3*32*32, second.Parameters)
	third := reportOf(t, Parallel{Expert: Shard{2, 3}})
	require.NotContains(t, rows(third), "model."+moe0+"experts.w13_weight", "a rank without experts")
	require.Equal(t, reportOf(t, Parallel{}).Parameters-6*32*32, third.Parameters)
}

func TestReportUnopenedShards(t *testing.T) {
	c, err := OpenCheckpoint(fstest.MapFS{
		"model.safetensors.index.json": {Data: []byte(`{"weight_map": {"lm_head.weight": "a.safetensors", "model.layers.1.x": "a.safetensors",
			"model.layers.2.y": "s.safetensors", "vision_tower.patch.w": "s.safetensors", "solo": "s.safetensors"}}`)},
		"a.safetensors": {Data: buildFile(bytePart("lm_head.weight", "a"), bytePart("model.layers.1.x", "b"))},
	})
	require.NoError(t, err)
	defer c.Close()
	ignored := prefixes{"model.layers": 1}
	ignored.addUnopened(c)
	r := newReport(&Plan{}, ignored)
	require.Equal(t, map[string]int{"model.layers": 2, "solo": 1, "vision_tower.patch": 1}, r.Ignored)
	require.Contains(t, r.String(), "0 parameters in 0 tensors, 0 B")
}

// TestReportCountsPrefixes: the names of a million tensors, each under a prefix of its own,
// take no memory.
func TestReportCountsPrefixes(t *testing.T) {
	p := make(prefixes)
	for i := range 3000 {
		p.add(fmt.Sprintf("layer%d.x.y", i))
		p.add("language_model.model.layers.0.x")
	}
	require.Len(t, p, 1001)
	require.Equal(t, 3000, p["language_model.model.layers"])
	require.Equal(t, 1, p["layer7.x"])
	require.Equal(t, 3000-999, p[""])
	require.Contains(t, (&Report{Ignored: p}).String(), "2001 tensors under other prefixes")
}

// TestReportPrints: columns begin at the same place in every line.
func TestReportPrints(t *testing.T) {
	r := reportOf(t, Parallel{})
	r.Notes = append(r.Notes, "a note")
	table, rest, ok := strings.Cut(r.String(), "\n\n")
	require.True(t, ok)
	lines := strings.Split(table, "\n")
	require.Len(t, lines, 1+len(r.params))
	for _, column := range []string{"shape", "tensors", "bytes", "format"} {
		at := strings.Index(lines[0], column)
		require.Positive(t, at, column)
		for _, line := range lines {
			require.Equal(t, "  ", line[at-2:at], "before %s in %q", column, line)
			require.NotEqual(t, byte(' '), line[at], "%s in %q", column, line)
		}
	}
	require.Contains(t, lines[1], "[10, 32]")
	require.Contains(t, lines[2], "[32] ")
	require.Contains(t, lines[4], "MXFP8, BF16, F16")
	require.Equal(t, strings.Join([]string{
		"12660 parameters in 27 tensors, 21.08 kB:  BF16 2.05 kB  F16 1.67 kB  F32 8.39 kB  MXFP8 8.98 kB",
		"not the head's: 2 tensors under model.layers",
		"not the head's: 1 tensor under language_model.model.norm",
		"not the head's: 1 tensor under model.norm",
		`not the head's: 1 tensor under "odd\aname"`,
		"note: a note", "",
	}, "\n"), rest)
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 999: "999 B", 1000: "1.00 kB", 1234: "1.23 kB", 999_994: "999.99 kB", 999_996: "1.00 MB",
		7_730_000_000: "7.73 GB", 999_999_999: "1.00 GB", 2_458_386_432: "2.46 GB", 1_000_000_000_000: "1000.00 GB",
	} {
		require.Equal(t, want, formatBytes(n))
	}
}
