// Package weights reads the checkpoint of a MiniMax-M3 MTP draft head: the names in it, the
// formats of its tensors, and matrix products over the weights as they are stored. Package
// [github.com/drafthead/drafthead/weights/safetensors] reads the file format alone.
//
// # How do I read a checkpoint?
//
// In three steps: take inventory, plan, and only then move bytes.
//
//	c, err := weights.OpenCheckpoint(fsys)                         // headers, all checked
//	plan, err := weights.NewPlan(c, params)                        // every parameter matched
//	fmt.Print(plan.Report())
//	loaded, err := plan.Load(ctx, device, false, false, nil)       // bytes moved, or mapped
//	m := loaded.Matrix("model.layers.0.eh_proj.weight")
//	err = m.Product(device, y, x, rows)                            // y = x · mᵀ
//
// [Matrix.ProductQuantized] multiplies rows of x that a [QuantizedRows] holds rounded to MXFP8.
// Package mtp does this for a head; its Config.Parameters gives params.
//
// # What is a parameter made of?
//
// Engines stack matrices that are used together. A [Param] is one such stack, a
// [Part] one tensor of the checkpoint in it, and a [Matrix] the loaded stack with
// a [Segment] for each part. Parts may have different formats:
//
//	checkpoint                        parameter qkv_proj
//	q_proj.weight        MXFP8   ──▶  ┌ rows of q        ┐
//	k_proj.weight        MXFP8   ──▶  │ rows of k        │
//	v_proj.weight        MXFP8   ──▶  │ rows of v        │  one product
//	index_q_proj.weight  BF16    ──▶  │ rows of index_q  │
//	index_k_proj.weight  BF16    ──▶  └ rows of index_k  ┘
//
// [MapName], [StackedParams], [ExpertParams], [RemapKVScale] and [MTPLayer] are the rules by
// which a tensor's name leads to its parameter and part.
//
// The stored tensor decides the [Format], not the config. [Matrix.Requantize] makes an MXFP8,
// INT8 or MXFP4 copy of a matrix, and [Matrix.Select] a matrix of some of its rows, in place.
// [Rows.Multiply] says how the host sums. No row of a product depends on another. What does
// not fit is a [*Problem] or a [*safetensors.FormatError].
//
// # Memory, ownership and concurrency
//
// On unix, files that os.DirFS opens are memory-mapped, and a device that can
// [hip.Adopt] memory uses the mapping in place: nothing is copied, and processes share it.
// Otherwise each part is uploaded once, at most 16 MiB at a time; to a GPU up to twelve
// goroutines read straight into its upload memory. The files must not change while they are
// open. A checkpoint must stay open until what was loaded in place from it is closed; see
// [Loaded.InPlace]. Several goroutines may use a checkpoint, a [Plan] and a [Loaded] until
// they are closed.
//
// A rank of a tensor- or expert-parallel head loads only its share: the rows and columns
// that a [Part] keeps.
//
// Sizes are in bytes, shapes are [rows, columns] and row-major.
package weights
