package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		log             bool
		lowest, highest float64
		want            []float64
	}{
		{false, 1, 4, []float64{0, 1, 2, 3, 4}},
		{false, 1, 5.9, []float64{0, 1, 2, 3, 4, 5, 6}},
		{false, 1, 1.16, []float64{0, 0.25, 0.5, 0.75, 1, 1.25}},
		{false, 0.1, 0.2, []float64{0, 0.05, 0.1, 0.15, 0.2}},
		{true, 0.84, 99.8, []float64{0.5, 1, 2, 5, 10, 20, 50, 100}},
		{true, 1, 2, []float64{1, 2}},
		{true, 3, 3.5, []float64{2, 5}},
		{true, 7, 11, []float64{5, 10, 20}},
	} {
		got := Axis{Log: c.log}.ticks(c.lowest, c.highest)
		require.InDeltaSlice(t, c.want, got, 1e-9, "%+v: %v", c, got)
		require.Len(t, got, len(c.want))
	}
}

// TestWrite: a picture is well-formed, and has the colors of light and of dark pages, a name
// for every curve and a mark for every value that was measured.
func TestWrite(t *testing.T) {
	chart := &Chart{
		Title: "ms & <more>",
		X:     Axis{Log: true},
		Curves: []Curve{
			{Name: "a\x1b", Points: []Point{{1, 4}, {2, 3}}},
			{Name: "none"},
			{Name: "bound", Dashed: true, Points: []Point{{1, 1}}},
		},
	}
	var svg strings.Builder
	require.NoError(t, chart.Write(&svg))
	count := map[string]int{}
	for tokens := xml.NewDecoder(strings.NewReader(svg.String())); ; {
		token, err := tokens.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if start, ok := token.(xml.StartElement); ok {
			count[start.Name.Local]++
		}
	}
	require.Equal(t, 2, count["path"])
	require.Equal(t, 2, count["circle"])
	require.Equal(t, 1+5+2+2, count["text"], "the title, ticks and names")
	for _, words := range []string{"prefers-color-scheme:dark", "ms &amp; &lt;more&gt;", `a\x1b: 3.00`, "bound: 1.00", "stroke-dasharray"} {
		require.Contains(t, svg.String(), words)
	}
	require.ErrorContains(t, (&Chart{Curves: []Curve{{Name: "none"}}}).Write(io.Discard), "no curve has a point")
	require.ErrorIs(t, chart.Write(full{}), io.ErrShortWrite)
}

// full is a writer that takes nothing.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestDigits(t *testing.T) {
	for v, want := range map[float64]string{123.4: "123", 12.34: "12.3", 1.234: "1.23", 0.1234: "0.123"} {
		require.Equal(t, want, Digits(v))
	}
}
