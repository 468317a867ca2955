package vec

// expTable is what the assembly's exp needs, in this order:
//
//	n      = x·log₂e rounded to an integer
//	r      = (x − n·ln2) − n·(ln 2 − ln2)        fused: |r| ≤ ½·ln 2
//	exp(x) ≈ 2ⁿ · (1 + r·(1 + r·(c2 + r·(c3 + r·(c4 + r·(c5 + r·c6))))))
//
// The polynomial is the one of its kind whose largest relative error is least,
// 3.8e-9; with the roundings the result is within 2^-22. Where x < least it is
// 0: from there on down 2ⁿ is not a normal number.
//
//lint:ignore U1000 the assembly reads it
var expTable = [...]float32{
	-86.5,                   // least
	1.4426950216293335,      // log₂e
	0.6931471824645996,      // ln2
	-1.9046542121259336e-09, // ln 2 − ln2
	0.001381459878757596,    // c6
	0.008368716575205326,    // c5
	0.04166838899254799,     // c4
	0.1666652113199234,      // c3
	0.4999999403953552,      // c2
	1,
}
