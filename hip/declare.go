package hip

import "fmt"

// Define returns HIP source that defines name as value. Put it before the source that uses
// the constant, so that no number is written twice:
//
//	const tile = 1024
//
//	var scale = hip.NewKernel("scale", hip.Define("tile", tile)+scaleHIP, scaleTwin)
func Define(name string, value int) string {
	return fmt.Sprintf("constexpr int32 %s = %d;\n", name, value)
}

// Choose returns the last entry of table for which serves returns true, or the first entry
// if there is none. The table holds kernels that compute the same from the same arguments,
// each the fastest for some launches, and what decides between them:
//
//	type scaleKernel struct {
//		*hip.KernelOf[scaleArgs]
//		from int // rows
//	}
//
//	var scales = []scaleKernel{
//		{hip.NewKernel("scale_one", source, twin).Instance("scaleRows<1>", 64, 0, "1 row"), 1},
//		{hip.NewKernel("scale", source, twin).Instance("scaleRows<4>", 64, 0, "2 rows on"), 2},
//	}
//
//	k := hip.Choose(scales, func(k *scaleKernel) bool { return rows >= k.from })
//
// The result points into the table.
func Choose[K any](table []K, serves func(k *K) bool) *K {
	for i := len(table) - 1; i > 0; i-- {
		if serves(&table[i]) {
			return &table[i]
		}
	}
	return &table[0]
}
