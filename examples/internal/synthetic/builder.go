package synthetic

import (
	"math"
	"strings"

	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// Standard deviations of what is not a matrix that keeps its input's size.
const (
	normDeviation      = 0.1
	embeddingDeviation = 1
	biasDeviation      = 0.01 // e_score_correction_bias, beside sigmoids
	routerGain         = 0.5  // of the gate, relative to other matrices
)

// builder collects the tensors of a checkpoint.
type builder struct {
	Options
	tensors    []Tensor
	parameters int64
	plain      []string // modules of matrices that are not quantized

	// Tables are shared by the tensors of one deviation.
	bf16 map[float64]*[4096]uint16
	f32  map[float64]*[4096]uint32
	fp8  map[float64]*blockTables
	fp4  map[float64]*fp4Tables
}

// blockTables are codes and scales of blocks.
type blockTables struct{ codes, scales *[256]uint8 }

// fp4Tables are those of four-bit codes, and what every tensor of NVFP4 has one of.
type fp4Tables struct {
	blockTables
	global, input *[4096]uint32 // the same number throughout
}

func newBuilder(opts Options) *builder {
	return &builder{
		Options: opts,
		bf16:    make(map[float64]*[4096]uint16),
		f32:     make(map[float64]*[4096]uint32),
		fp8:     make(map[float64]*blockTables),
		fp4:     make(map[float64]*fp4Tables),
	}
}

// parameter adds the tensors that a parameter is loaded from.
func (b *builder) parameter(p *weights.Param) error {
	if p.Optional { // scales of an fp8 cache
		return nil
	}
	for i := range p.Parts {
		if err := b.part(&p.Parts[i]); err != nil {
			return err
		}
	}
	return nil
}

// part adds one tensor, stored as in the released checkpoint: norms, embed_tokens
// and lm_head as BF16, the router as F32, all else in the chosen format, which may be one of
// routed experts alone.
func (b *builder) part(part *weights.Part) error {
	shape := part.Shape
	vector := len(shape) < 2
	even, values := 1.0, int64(shape[0])
	if !vector {
		even = 1 / math.Sqrt(float64(shape[1]))
		values *= int64(shape[1])
	}
	b.parameters += values
	name := part.Tensor
	switch {
	case name == "model.embed_tokens.weight":
		b.plainMatrix(name, shape, safetensors.BF16, embeddingDeviation)
	case name == "lm_head.weight":
		b.plainMatrix(name, shape, safetensors.BF16, even)
	case strings.HasSuffix(name, ".block_sparse_moe.gate.weight"):
		b.plainMatrix(name, shape, safetensors.F32, routerGain*even)
	case strings.HasSuffix(name, ".e_score_correction_bias"):
		b.add(name, safetensors.F32, shape, b.normal(safetensors.F32, biasDeviation))
	case vector:
		b.add(name, safetensors.BF16, shape, b.normal(safetensors.BF16, normDeviation))
	case b.Format == weights.BF16:
		b.add(name, safetensors.BF16, shape, b.normal(safetensors.BF16, even))
	case b.Format != weights.MXFP8 && strings.Contains(name, ".block_sparse_moe.experts."):
		return b.fourBits(strings.TrimSuffix(name, ".weight"), shape, even)
	default:
		return b.quantized(name, shape, even)
	}
	return nil
}

// plainMatrix adds a matrix that quantization passes over.
func (b *builder) plainMatrix(name string, shape []int, dtype safetensors.Dtype, deviation float64) {
	b.plain = append(b.plain, strings.TrimSuffix(name, ".weight"))
	b.add(name, dtype, shape, b.normal(dtype, deviation))
}

// quantized adds an MXFP8 matrix and its scales.
func (b *builder) quantized(name string, shape []int, deviation float64) error {
	tables, ok := b.fp8[deviation]
	if !ok {
		codes, scales, err := mxfp8Normal(deviation)
		if err != nil {
			return err
		}
		tables = &blockTables{codes, scales}
		b.fp8[deviation] = tables
	}
	rows, cols := shape[0], (shape[1]+31)/32 // of MXFP8 scales
	b.add(name, safetensors.F8E4M3, shape, stream{bytes: tables.codes})
	b.add(name+scaleSuffix, safetensors.U8, []int{rows, cols}, stream{bytes: tables.scales})
	return nil
}

// fourBits adds the tensors of a matrix in four bits, as compressed-tensors names them.
func (b *builder) fourBits(module string, shape []int, deviation float64) error {
	tables, ok := b.fp4[deviation]
	if !ok {
		var err error
		if tables, err = fp4Normal(b.Format, deviation); err != nil {
			return err
		}
		b.fp4[deviation] = tables
	}
	rows, cols := shape[0], shape[1]
	b.add(module+".weight_packed", safetensors.U8, []int{rows, (cols + 1) / 2}, stream{bytes: tables.codes})
	if b.Format == weights.MXFP4 {
		b.add(module+".weight_scale", safetensors.U8, []int{rows, (cols + 31) / 32}, stream{bytes: tables.scales})
		return nil
	}
	b.add(module+".weight_scale", safetensors.F8E4M3, []int{rows, (cols + 15) / 16}, stream{bytes: tables.scales})
	b.add(module+".weight_global_scale", safetensors.F32, []int{1}, stream{singles: tables.global})
	b.add(module+".input_global_scale", safetensors.F32, []int{1}, stream{singles: tables.input})
	return nil
}

// normal returns N(0, deviation²) as BF16 or F32, yet without a key.
func (b *builder) normal(dtype safetensors.Dtype, deviation float64) stream {
	if dtype == safetensors.BF16 {
		return stream{halves: shared(b.bf16, deviation, bf16Normal)}
	}
	return stream{singles: shared(b.f32, deviation, f32Normal)}
}

// shared returns the table of a deviation, made the first time.
func shared[T any](tables map[float64]*T, deviation float64, table func(float64) *T) *T {
	t, ok := tables[deviation]
	if !ok {
		t = table(deviation)
		tables[deviation] = t
	}
	return t
}

func (b *builder) add(name string, dtype safetensors.Dtype, shape []int, values stream) {
	values.key = streamKey(b.Seed, name)
	b.tensors = append(b.tensors, Tensor{Name: name, Dtype: dtype, Shape: shape, values: values})
}
