package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/drafthead/drafthead/examples/internal/ranks"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// wholeRows are the stages that golden data stores for all rows, with the
// margins of their choices.
var wholeRows = map[string]string{"selected_blocks": "select_margin", "expert_ids": "router_margin"}

// verifyModule runs a module alone over the prompt, into its own layer of the
// common sequence, and compares every stage.
func (c *caseRun) verifyModule(ctx context.Context, module int) error {
	name := func(stage string) string { return fmt.Sprintf("l%d.%s", module, stage) }
	stages := make(map[string]mtp.Stage)
	batch := c.batch(c.everyModule, 0, c.prompt.tokens, c.prompt.hidden)
	batch.Observe = func(s mtp.Stage) { stages[s.Name] = s }
	hidden, err := c.head.Forward(ctx, batch, module)
	if err != nil {
		return err
	}
	rows := make([]int, len(c.prompt.rows))
	for i, r := range c.prompt.rows {
		rows[i] = int(r)
	}
	for _, t := range c.golden.file.Tensors() {
		var stage string
		if _, err := fmt.Sscanf(t.Name, fmt.Sprintf("l%d.%%s", module), &stage); err != nil {
			continue
		}
		switch stage {
		case "select_margin", "router_margin":
			continue // of choices: a head does not compute them
		case "logits", "final_norm_out":
			get := c.head.Logits
			if stage == "final_norm_out" {
				get = c.head.FinalNorm
			}
			got, err := get(ctx, hidden, rows, module)
			if err != nil {
				return err
			}
			if err := c.floats(name(stage), got); err != nil {
				return err
			}
			continue
		case "k_code", "v_code", "index_k_code":
			if err := c.codes(name(stage), stage, module); err != nil {
				return err
			}
			continue
		}
		if c.rank.Group() != nil && slices.Contains(partialSums, stage) {
			continue // shared_out only the rank of the shared expert has at all
		}
		s, ok := stages[stage]
		if !ok {
			return fmt.Errorf("golden.safetensors: %s: the head has no such stage, it has %s", safetensors.Printable(t.Name), strings.Join(slices.Sorted(maps.Keys(stages)), ", "))
		}
		if err := c.stage(name(stage), s, module); err != nil {
			return err
		}
	}
	return nil
}

// partialSums are the stages that a rank of a parallel head has a summand of. Only their sum
// over the ranks is in the golden data, and part of stage hidden.
var partialSums = []string{"moe_routed_out", "shared_out", "moe_out"}

// own returns the columns of golden rows that the rank holds: its heads of a stage that has
// heads, and otherwise all. There are rows rows, of which the rank has width columns.
func own[T any](r *ranks.Rank, want []T, rows, width int) []T {
	full := len(want) / max(rows, 1)
	if width >= full || full*rows != len(want) {
		return want
	}
	first := r.Tensor() * full / r.Layout().Tensor / width * width // ranks may share a head
	var columns []T
	for row := range rows {
		columns = append(columns, want[row*full+first:row*full+first+width]...)
	}
	return columns
}

// stage compares an observed stage with the golden one.
func (c *caseRun) stage(name string, s mtp.Stage, module int) error {
	width := 1
	for _, n := range s.Shape[1:] {
		width *= n
	}
	if s.Float32 != nil {
		want, err := c.golden.floats(name)
		if err != nil {
			return err
		}
		want = own(c.rank, want, len(c.prompt.rows), width)
		c.results = append(c.results, compareFloats(name, pickRows(s.Float32, width, c.prompt.rows), want, c.bound))
		return nil
	}
	want, err := c.golden.ints(name)
	if err != nil {
		return err
	}
	rows, all := s.Shape[0], len(want)
	want = own(c.rank, want, rows, width)
	margins, err := c.golden.floats(fmt.Sprintf("l%d.%s", module, wholeRows[s.Name]))
	if err != nil {
		return err
	}
	if len(want) < all && rows > 0 {
		margins = own(c.rank, margins, rows, len(margins)/rows*len(want)/all)
	}
	perMargin := len(want) / max(len(margins), 1)
	c.results = append(c.results, compareInts(name, s.Int32, want, max(perMargin, 1), margins, c.bound))
	return nil
}

// codes compares what the cache holds of the rows, in F8_E4M3.
func (c *caseRun) codes(name, stage string, module int) error {
	want, _, err := c.golden.raw(name, safetensors.F8E4M3)
	if err != nil {
		return err
	}
	g := c.head.Config().Attention
	buffer, width := map[string]int{"k_code": 0, "v_code": 1, "index_k_code": 2}[stage], g.HeadDim
	if stage == "index_k_code" {
		width = g.IndexDim
	}
	data, pageBytes, err := c.cache.Buffers(module)
	if err != nil {
		return err
	}
	heads := int(pageBytes[buffer]) / (g.BlockSize * width) // of the rank
	table, got := c.everyModule.BlockTable(), []byte(nil)
	for _, row := range c.prompt.rows {
		page, slot := int(table[int(row)/g.BlockSize]), int(row)%g.BlockSize
		for head := range heads {
			code := make([]byte, width)
			at := ((page*heads+head)*g.BlockSize + slot) * width
			if err := c.rank.Device.Read(code, data[buffer].Add(int64(at))); err != nil {
				return err
			}
			got = append(got, code...)
		}
	}
	c.results = append(c.results, compareCodes(name, got, own(c.rank, want, len(c.prompt.rows), heads*width), c.rank.Device.Info().IsGPU()))
	return nil
}

// floats compares values with the golden tensor of that name.
func (c *caseRun) floats(name string, got []float32) error {
	want, err := c.golden.floats(name)
	if err != nil {
		return err
	}
	c.results = append(c.results, compareFloats(name, got, want, c.bound))
	return nil
}
