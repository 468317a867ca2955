package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/internal/asmgen/weights"
)

// TestInstructionsOfAWeight: the tables in the generator's doc and in hip/CPU.md are what the
// inner loops have.
// One row of x takes dot where a format has scales, and else dots1.
func TestInstructionsOfAWeight(t *testing.T) {
	const chunk = 64
	text := ""
	for _, file := range texts(weights.Files()) {
		text += file
	}
	count := func(function string) int {
		_, body, found := strings.Cut(text, "\nTEXT ·"+function+"(SB)")
		if !found {
			return 0
		}
		_, body, found = strings.Cut(body, "\nchunk:\n")
		require.True(t, found, function)
		body, _, found = strings.Cut(body, " chunk\n") // what branches to it
		require.True(t, found, function)
		return len(regexp.MustCompile(`(?m)^\t`).FindAllString(body, -1))
	}
	levels := []struct {
		name string
		rows int // of weights, side by side
	}{{"AVX2", 2}, {"AVX512", 4}, {"VBMI", 4}, {"NEON", 4}}
	var table strings.Builder
	for _, l := range levels {
		fmt.Fprintf(&table, "%-13s", l.name)
	}
	lines := []string{"         " + table.String()}
	cpu, err := os.ReadFile(filepath.Join(root, "hip/CPU.md"))
	require.NoError(t, err)
	for _, format := range []string{"F32", "F16", "BF16", "MXFP8", "INT8", "MXFP4", "NVFP4"} {
		line, row := fmt.Sprintf("%-9s", format), "\n| "+format+" |"
		for _, l := range levels {
			one := float64(count("dot"+format+l.name)) / chunk
			if format == "F32" || strings.HasSuffix(format, "F16") {
				one = float64(count("dots1"+format+l.name)) / chunk / float64(l.rows)
			}
			four := float64(count("dots4"+format+l.name)) / chunk / float64(l.rows)
			if four == 0 {
				line += strings.Repeat(" ", 13)
				row += " |"
				continue
			}
			row += fmt.Sprintf(" %.2f |", one)
			line += fmt.Sprintf("%.2f  %.2f   ", one, four)
		}
		lines = append(lines, line)
		require.Contains(t, string(cpu), row+"\n")
	}
	panel := float64(count("product4x4NEON")) / chunk / (4 * 4)
	lines = append(lines, "rows of x        1     2     4     8     panels")
	for _, format := range []string{"BF16", "MXFP8"} {
		alone := 1.0 // rows of weights, with one row of x
		exact := float64(count("dot" + format + "NEON"))
		if format == "BF16" {
			alone, exact = 4, float64(count("dots1"+format+"NEON"))
		}
		each := func(function string, n int) float64 {
			return float64(count(fmt.Sprintf(function, n, format))) / chunk / 4
		}
		four := each("dots%d%sNEON", 4) / 4
		for _, way := range []struct {
			doc, cpu string
			counts   []float64
		}{
			{"", "exact", []float64{exact / chunk / alone, each("dots%d%sNEON", 2) / 2, four, four, panel}},
			{" rounded", "`cpu:bf16`", []float64{
				float64(count("pairs1x1"+format+"NEON")) / chunk / alone,
				each("matrix%d%sNEON", 1) / 2, each("matrix%d%sNEON", 2) / 4, each("matrix%d%sNEON", 4) / 8,
				float64(count("product8x8MatrixNEON")) / chunk / (8 * 8),
			}},
		} {
			line, row := fmt.Sprintf("%-17s", format+way.doc), fmt.Sprintf("\n| %s, %s |", format, way.cpu)
			for _, n := range way.counts {
				line += fmt.Sprintf("%.2f  ", n)
				row += fmt.Sprintf(" %.2f |", n)
			}
			lines = append(lines, line)
			require.Contains(t, string(cpu), row+"\n")
		}
	}
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	for _, line := range lines {
		require.Contains(t, string(doc), "//\t"+strings.TrimRight(line, " ")+"\n")
	}
}
