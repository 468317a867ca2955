package hip

import "fmt"

// Define returns HIP source that gives a constant of Go's its name in a kernel. It goes
// before the source that uses it, so that no number is written twice:
//
//	const tile = 1024
//
//	var scale = hip.NewKernel("scale", hip.Define("tile", tile)+scaleHIP, scaleTwin)
func Define(name string, value int) string {
	return fmt.Sprintf("constexpr int32 %s = %d;\n", name, value)
}

// Variant is a row of the table of [NewVariants]: one instance of the function template
// that computes a kernel, and when it is the one to take.
type Variant[S any] struct {
	Name     string  // of the kernel: "product_tiled_16"
	Template string  // the instance, a function of the argument struct: "productTiles<16>"
	Threads  int     // of a block on a GPU
	Resident int     // blocks that shall fit on a multiprocessor of an NVIDIA GPU; 0: as many as do
	MaxError float64 // see [Kernel]; 0: the default of 1e-5

	// Serves is data of the caller's: from how much work on the variant serves, what that
	// needs, how a block divides it. As text it becomes Kernel.Serves.
	Serves S
}

// Variants are kernels that compute the same of the same arguments, each of which is the
// fastest for some launches: one table declares them, and [Variants.For] chooses by it.
type Variants[A, S any] struct {
	table []variant[A, S]
}

type variant[A, S any] struct {
	kernel *KernelOf[A]
	serves *S
}

// NewVariants declares a kernel for each row of the table. source has the templates and
// the argument struct, which is named as A is. Each instance is compiled by itself, so that
// a device compiles them side by side. twin and fast return the Go sides of a variant, as
// of [NewKernel] and [KernelOf.Fast]; fast may return nil.
func NewVariants[A, S any](source string, twin, fast func(*S) Func[A], table ...Variant[S]) *Variants[A, S] {
	all := new(Variants[A, S])
	for i := range table {
		row := &table[i]
		k := NewKernel(row.Name, "", twin(&row.Serves)).Block(row.Threads)
		if f := fast(&row.Serves); f != nil {
			k.Fast(row.MaxError, f)
		}
		k.known.Source, k.Serves = source+instance(row.Name, row.Template, k.args.Name(), row.Threads, row.Resident), fmt.Sprint(row.Serves)
		all.table = append(all.table, variant[A, S]{k, &row.Serves})
	}
	return all
}

// instance is the source of a kernel that is an instance of a template.
func instance(name, template, args string, threads, resident int) string {
	bounds := fmt.Sprint(threads)
	if resident > 0 {
		bounds = fmt.Sprintf("%d, %d", threads, resident)
	}
	return fmt.Sprintf("KERNEL(%s) void %s(%s a) { %s(a); }\n", bounds, name, args, template)
}

// For returns the kernel of the last row of the table that serves, and that row's Serves.
// The first row serves whatever none of the others does.
func (v *Variants[A, S]) For(serves func(*S) bool) (*KernelOf[A], *S) {
	for i := len(v.table) - 1; i > 0; i-- {
		if row := &v.table[i]; serves(row.serves) {
			return row.kernel, row.serves
		}
	}
	return v.table[0].kernel, v.table[0].serves
}
