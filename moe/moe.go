package moe

import (
	"errors"
	"fmt"
	"slices"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

const opForward = "moe: forward"

// Forward computes, for rows rows of Hidden float32 values each,
//
//	hidden = residual + moe(x)
//
// or, on a rank that holds a part of the layer, its part of that sum: see the package.
//
// x is the normalized residual. hidden may be the memory of residual or of x; the three
// must not overlap otherwise. Without a residual, the zero Ptr, hidden = moe(x). Forward
// grows ws if it is too small and leaves the stages
// there (see [Workspace.Stage]). rows = 0 does nothing.
//
// Forward checks everything before the first launch. The error joins a [hip.InputError] for
// all that is wrong with the config, or else with the weights, or else with the arguments.
// Other errors are the device's. Launches are queued: results are there after the device's
// Sync or Read. Concurrent calls need a workspace each.
func (e *Experts) Forward(d hip.Device, ws *Workspace, hidden, residual, x hip.Ptr, rows int) error {
	if err := e.check(opForward); err != nil {
		return err
	}
	if err := e.checkInput(ws, hidden, residual, x, rows); err != nil {
		return err
	}
	if rows == 0 {
		return nil
	}
	if err := ws.reserve(d, &e.config, rows); err != nil {
		return fmt.Errorf("moe: workspace for %d rows: %w", rows, err)
	}
	in := &input{x: x, rows: rows}
	for _, stage := range []struct {
		there bool
		run   func() error
	}{
		{!e.config.dense(), func() error { return e.route(d, ws, x, rows) }},
		{e.config.held() > 0, func() error { return e.routedExperts(d, ws, in) }},
		{e.config.shared(), func() error { return e.sharedExpert(d, ws, in) }},
		{true, func() error { return e.combine(d, ws, hidden, residual, rows) }},
	} {
		if !stage.there {
			continue
		}
		if err := stage.run(); err != nil {
			return fmt.Errorf("moe: %w", err)
		}
	}
	return nil
}

// route fills scores, ids and weights.
func (e *Experts) route(d hip.Device, ws *Workspace, x hip.Ptr, rows int) error {
	if err := e.gate.Product(d, ws.logits.Ptr(), x, rows); err != nil {
		return err
	}
	return launchRoute(d, rows, &routeArgs{
		Logits: ws.logits.Ptr(), Bias: e.bias,
		Scores: ws.scores.Ptr(), IDs: ws.ids.Ptr(), Weights: ws.weights.Ptr(),
		Scale: e.config.Scale, Experts: int32(e.config.Experts), TopK: int32(e.config.TopK),
	})
}

// routedExperts fills expertOut, a row per pair, not yet weighted. Rows of pairs whose
// expert is not held stay as they are.
func (e *Experts) routedExperts(d hip.Device, ws *Workspace, in *input) error {
	rows := in.rows
	held, pairs := int32(e.config.held()), int32(rows*e.config.TopK)
	here := int(int64(pairs) * int64(held) / int64(e.config.Experts)) // pairs of experts held, on average
	err := launchGroupByExpert(d, &groupByExpertArgs{
		IDs: ws.ids.Ptr(), Offsets: ws.offsets.Ptr(), Order: ws.order.Ptr(),
		Active: ws.active.Ptr(), ActiveCount: ws.activeCount.Ptr(),
		Pairs: pairs, Experts: int32(e.config.Experts), First: int32(e.config.FirstExpert), Held: held,
	})
	if err != nil {
		return err
	}
	grouped := expertsArgs{
		Offsets: ws.offsets.Ptr(), Order: ws.order.Ptr(), Active: ws.active.Ptr(), ActiveCount: ws.activeCount.Ptr(),
		Pairs: pairs, Experts: held,
	}
	up, down := grouped, grouped
	if up.X, up.Codes, up.Scales, err = e.round(d, &ws.rounded, e.w13, in.x, rows, rows); err != nil {
		return err
	}
	up.Y, up.PairsPerX = ws.intermediate.Ptr(), int32(e.config.TopK)
	up.In, up.Out = int32(e.config.Hidden), int32(e.config.Intermediate)
	form, err := up.split(d, ws, e.w13, rows, here, func() (hip.Ptr, error) { return in.splitFew(d, ws, e.w13) })
	if err != nil {
		return err
	}
	up.Alpha, up.Limit, up.Beta = e.config.Alpha, e.config.Limit, e.config.Beta
	if err := launchExperts(d, expertsGateUp, e.w13, rows, here, form, &up); err != nil {
		return err
	}
	down.X, down.Codes, down.Scales, err = e.round(d, &ws.roundedInner, e.w2, ws.intermediate.Ptr(), rows, int(pairs))
	if err != nil {
		return err
	}
	down.Y, down.PairsPerX = ws.expertOut.Ptr(), 1
	down.In, down.Out = int32(e.config.Intermediate), int32(e.config.Hidden)
	form, err = down.split(d, ws, e.w2, rows, here, func() (hip.Ptr, error) {
		return ws.splitPairs.SplitFew(d, e.w2, down.X, int(pairs))
	})
	if err != nil {
		return err
	}
	return launchExperts(d, expertsDown, e.w2, rows, here, form, &down)
}

// sharedExpert fills shared.
func (e *Experts) sharedExpert(d hip.Device, ws *Workspace, in *input) error {
	rows := in.rows
	x, codes, scales, err := e.round(d, &ws.rounded, e.gateUp, in.x, rows, rows)
	if err != nil {
		return err
	}
	var parts hip.Ptr
	form := asIs
	switch {
	case codes != 0:
	case rows <= weights.FewTileRows && e.gateUp.Few(d, x, rows, e.config.SharedIntermediate):
		form = inRows
		parts, err = in.splitFew(d, ws, e.gateUp)
	case splits(d, e.gateUp, x, rows, rows <= weights.FewTileRows):
		form = inTiles
		parts, err = ws.split.Split(d, x, rows, e.gateUp.Cols, nil)
	}
	if err != nil {
		return err
	}
	err = launchGateUpSwiGLU(d, e.gateUp, form, &gateUpSwiGLUArgs{
		X: x, Codes: codes, Scales: scales, Parts: parts, Y: ws.sharedInner.Ptr(), Alpha: e.config.Alpha, Limit: e.config.Limit, Beta: e.config.Beta,
		Rows: int32(rows), In: int32(e.config.Hidden), Out: int32(e.config.SharedIntermediate),
	})
	if err != nil {
		return err
	}
	if !e.down.Quantizes(e.config.Activations, rows) {
		return e.down.ProductSplit(d, ws.shared.Ptr(), ws.sharedInner.Ptr(), rows, &ws.splitInner)
	}
	if err := ws.roundedInner.Quantize(d, ws.sharedInner.Ptr(), rows, e.down.Cols); err != nil {
		return err
	}
	return e.down.ProductQuantized(d, ws.shared.Ptr(), ws.sharedInner.Ptr(), &ws.roundedInner)
}

// round returns the n rows of x for products with m in a Forward of rows rows: x itself, or
// those that it rounds, with their codes and scales.
func (e *Experts) round(d hip.Device, q *weights.QuantizedRows, m *weights.Matrix, x hip.Ptr, rows, n int) (values, codes, scales hip.Ptr, err error) {
	if !m.Quantizes(e.config.Activations, rows) || len(m.Formats()) > 1 {
		return x, 0, 0, nil
	}
	if err := q.Quantize(d, x, n, m.Cols); err != nil {
		return 0, 0, 0, err
	}
	values, codes, scales = q.Rows()
	return values, codes, scales, nil
}

// input is the rows that the layer reads.
type input struct {
	x    hip.Ptr
	rows int

	few    hip.Ptr // their parts, for kernels of few rows, or 0
	fewFor []weights.Format
}

// splitFew splits the rows for m, unless they are.
func (in *input) splitFew(d hip.Device, ws *Workspace, m *weights.Matrix) (hip.Ptr, error) {
	if formats := m.Formats(); in.few == 0 || !slices.Equal(in.fewFor, formats) {
		var err error
		if in.few, err = ws.split.SplitFew(d, m, in.x, in.rows); err != nil {
			return 0, err
		}
		in.fewFor = formats
	}
	return in.few, nil
}

// form is what kernels read of x.
type form int

const (
	asIs    form = iota
	inTiles      // [weights.SplitRows.Split], of pairs in their order
	inRows       // [weights.SplitRows.SplitFew]
)

// split splits x of the pairs, of which here are those of the experts held, on average, for
// the kernels that are fastest, and returns the form it is in then. few splits rows of x, not
// pairs.
func (a *expertsArgs) split(d hip.Device, ws *Workspace, w *weights.Matrix, rows, here int, few func() (hip.Ptr, error)) (x form, err error) {
	experts, pairs := int(a.Experts), int(a.Pairs)
	switch {
	case a.Codes != 0:
	case rows > 1 && w.Few(d, a.X, pairs, int(a.Out)) && here <= mostFewPairs*experts:
		x = inRows
		a.Codes, err = few()
	case manyPairs(here, experts) && splits(d, w, a.X, pairs, here <= fewTilePairs*experts):
		x = inTiles
		a.Codes, err = ws.splitPairs.Split(d, a.X, pairs, w.Cols, &weights.Picked{
			Order: a.Order, Count: a.Offsets.Add(4 * int64(experts)), PerX: a.PairsPerX,
		})
	}
	return x, err
}

// splits reports whether kernels on warpgroups multiply m with that many rows of x, of which
// few are faster wave by wave.
func splits(d hip.Device, m *weights.Matrix, x hip.Ptr, rows int, few bool) bool {
	return m.SameFormat() && m.Splits(d, rows) && !(few && m.Tiled(d, x))
}

func (e *Experts) combine(d hip.Device, ws *Workspace, hidden, residual hip.Ptr, rows int) error {
	a := combineArgs{
		Hidden: hidden, Residual: residual, Y: ws.expertOut.Ptr(), Weights: ws.weights.Ptr(),
		Shared: ws.Stage("shared_out"), Routed: ws.Stage("moe_routed_out"), Total: ws.Stage("moe_out"),
		Rows: int64(rows), Cols: int32(e.config.Hidden),
	}
	if held := e.config.held(); held > 0 {
		a.TopK = int32(e.config.TopK)
		if held < e.config.Experts {
			a.IDs, a.First, a.Held = ws.ids.Ptr(), int32(e.config.FirstExpert), int32(held)
		}
	}
	return launchCombine(d, &a)
}

func (e *Experts) checkInput(ws *Workspace, hidden, residual, x hip.Ptr, rows int) error {
	errs := []error{e.config.checkRows(opForward, rows)}
	if ws == nil {
		errs = append(errs, &hip.InputError{Op: opForward, Field: "ws", Got: "nil", Want: "a workspace"})
	}
	if rows > 0 {
		for _, argument := range []struct {
			name string
			ptr  hip.Ptr
		}{{"hidden", hidden}, {"x", x}} {
			if argument.ptr == 0 {
				errs = append(errs, &hip.InputError{Op: opForward, Field: argument.name, Got: "missing", Want: "float32 [rows, Hidden]"})
			}
		}
	}
	return errors.Join(errs...)
}
