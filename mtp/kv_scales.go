package mtp

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// The parameters of a module that are scales of an FP8 cache. Checkpoints name them in
// several ways, see [weights.RemapKVScale].
const (
	keyScale   = "transformer_layer.self_attn.attn.k_scale"
	valueScale = "transformer_layer.self_attn.attn.v_scale"
)

var errKVScale = errors.New("a scale of an FP8 cache that keys or values cannot be divided by")

// fp8 reports whether a cache stores keys and values by scales.
func fp8(f attention.CacheFormat) bool {
	return f == attention.CacheFP8 || f == attention.CacheFP8Index
}

// checkKVScales reads the scales of an FP8 cache, where the head is to have one, and
// refuses those that are not finite numbers above 0. What does not look like a scale is left
// to the plan, which refuses it.
func (c *Config) checkKVScales(checkpoint *safetensors.Folder, opts Options) error {
	if !fp8(opts.CacheFormat) {
		return nil
	}
	var errs []error
	for _, t := range checkpoint.Tensors() {
		if !strings.HasSuffix(t.Name, "_scale") || t.Size() > 4 || len(t.Shape) > 0 {
			continue
		}
		param, ours := weights.MapName(t.Name)
		param, _ = weights.RemapKVScale(param, func(string) bool { return true })
		if module, ok := weights.MTPLayer(t.Name); !ours || !ok || module >= c.NumMTPModules ||
			param != layerName(module, keyScale) && param != layerName(module, valueScale) {
			continue
		}
		format, known := map[safetensors.Dtype]weights.Format{safetensors.F32: weights.F32, safetensors.F16: weights.F16, safetensors.BF16: weights.BF16}[t.Dtype]
		if !known {
			continue
		}
		raw, scale := make([]byte, t.Size()), make([]float32, 1)
		if _, err := t.ReadAt(raw, 0); err != nil && err != io.EOF {
			errs = append(errs, fmt.Errorf("mtp: read %s: %w", t.Name, err))
			continue
		}
		format.Decode(scale, raw, nil)
		if s := scale[0]; !(s > 0 && s <= math.MaxFloat32) {
			errs = append(errs, &weights.Problem{Tensor: t.Name, Rule: errKVScale, Got: fmt.Sprint(s), Want: "a finite number above 0, or another Options.CacheFormat"})
		}
	}
	return errors.Join(errs...)
}

// kvScales returns what an FP8 cache divides a module's keys and values by: what the
// checkpoint says, or 1. A scale of keys alone is one for both, as kv_scale is.
func (h *Head) kvScales(module int) (k, v float32) {
	k, v = 1, 1
	if _, stored := h.loaded.Vector(layerName(module, keyScale)); len(stored) > 0 {
		k, v = stored[0], stored[0]
	}
	if _, stored := h.loaded.Vector(layerName(module, valueScale)); len(stored) > 0 {
		v = stored[0]
	}
	return k, v
}

// setKVScales gives a cache of an FP8 format the scales of its layers' modules.
func (h *Head) setKVScales(kv *attention.Cache, layers int) error {
	if !fp8(h.options.CacheFormat) {
		return nil
	}
	for l := range layers {
		k, v := h.kvScales(l % h.config.NumMTPModules)
		if err := kv.SetScales(l, k, v); err != nil {
			return err
		}
	}
	return nil
}
