package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// products is matrices that a work multiplies with rows of x, in place of a call of
// the head: one set for each input.
type products struct {
	device hip.Device
	sets   [][]*weights.Matrix
	x, y   hip.Ptr
	owned  []*weights.Matrix
}

// productRows are the rows of x.
var productRows = []int{1, 4, 16, 512}

// measureProducts adds a row for each of the large matrices of a step, and for the
// matrices of as many routed experts as a token picks. The read of the ceiling before every
// run also drives their weights out of the caches.
func (b *session) measureProducts(ctx context.Context) error {
	m := b.model
	shape := func(w *weights.Matrix) string { return fmt.Sprintf("%d×%d %v", w.Rows, w.Cols, w.Formats()[0]) }
	all := []struct {
		name  string
		most  int // rows of x
		owned bool
		sets  [][]*weights.Matrix
	}{
		{"eh_proj " + shape(m.ehProj), 512, false, [][]*weights.Matrix{{m.ehProj}}},
		{"lm_head " + shape(m.lmHead), 16, false, [][]*weights.Matrix{{m.lmHead}}},
		{fmt.Sprintf("%d of %d experts", m.perToken, m.experts), 16, true, nil},
	}
	random := rand.New(rand.NewPCG(5, 1))
	progress, done := cli.Progress(b.stderr, "measure products", "rows")
	defer done()
	for i, p := range all {
		progress(int64(i), int64(len(all)))
		run := &products{device: b.device, sets: p.sets}
		err := error(nil)
		if p.owned {
			err = run.pickExperts(m, random)
		}
		for _, n := range productRows {
			if err == nil && n <= p.most {
				err = b.measureProduct(ctx, p.name, n, run, random)
			}
		}
		if err = errors.Join(err, run.free()); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// pickExperts makes sets of the matrices of different experts.
func (p *products) pickExperts(m *model, random *rand.Rand) error {
	for range inputsPerWork {
		var set []*weights.Matrix
		picks := random.Perm(m.experts)[:m.perToken]
		for _, w := range []*weights.Matrix{m.w13, m.w2} {
			var rows []int32
			per := w.Rows / m.experts
			for _, e := range picks {
				for r := range per {
					rows = append(rows, int32(e*per+r))
				}
			}
			selected, err := w.Select(p.device, rows)
			if err != nil {
				return err
			}
			p.owned = append(p.owned, selected)
			set = append(set, selected)
		}
		p.sets = append(p.sets, set)
	}
	return nil
}

// measureProduct times rows rows of x with every set in turn.
func (b *session) measureProduct(ctx context.Context, name string, rows int, p *products, random *rand.Rand) (err error) {
	in, out := 0, 0
	for _, set := range p.sets {
		for _, m := range set {
			in, out = max(in, rows*m.Cols), max(out, rows*m.Rows)
		}
	}
	x := make([]float32, in)
	for i := range x {
		x[i] = float32(random.NormFloat64())
	}
	if p.x, err = hip.Upload(b.device, x); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.device.Free(p.x)) }()
	if p.y, err = b.device.Alloc(4 * int64(out)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.device.Free(p.y)) }()
	w := &work{name: name, rows: rows, products: p}
	runs, err := b.time(ctx, b.head, w)
	if err != nil {
		return err
	}
	moved := make([]traffic, len(p.sets))
	for i, set := range p.sets {
		for _, m := range set {
			moved[i].bytes += m.Bytes()
			moved[i].flops += 2 * float64(rows) * float64(m.Rows) * float64(m.Cols)
		}
	}
	b.out.Rows = append(b.out.Rows, newRow(w, runs, moved))
	return nil
}

// run multiplies with set i.
func (p *products) run(i, rows int) error {
	for _, m := range p.sets[i] {
		if err := m.Product(p.device, p.y, p.x, rows); err != nil {
			return err
		}
	}
	return p.device.Sync()
}

func (p *products) free() error {
	var errs []error
	for _, m := range p.owned {
		errs = append(errs, m.Free(p.device))
	}
	return errors.Join(errs...)
}
