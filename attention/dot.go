package attention

// dot64 is the sum of the products, in float64.
func dot64(x, y []float32) float64 {
	sum := 0.0
	for i, v := range x {
		sum += float64(v) * float64(y[i])
	}
	return sum
}

// dots sets dst[h] to the dot product of key with query h, where queries holds
// them one behind the other. Sums are float32, in one strand per query: four
// queries at a time keep the adder busy and read the key once.
func dots(dst, queries, key []float32) {
	n := len(key)
	for ; len(dst) >= 4; dst, queries = dst[4:], queries[4*n:] {
		q0, q1, q2, q3 := queries[:n], queries[n:][:n], queries[2*n:][:n], queries[3*n:][:n]
		var s0, s1, s2, s3 float32
		for i, k := range key {
			s0 += q0[i] * k
			s1 += q1[i] * k
			s2 += q2[i] * k
			s3 += q3[i] * k
		}
		dst[0], dst[1], dst[2], dst[3] = s0, s1, s2, s3
	}
	for h := range dst {
		q := queries[h*n:][:n]
		var s float32
		for i, k := range key {
			s += q[i] * k
		}
		dst[h] = s
	}
}

// accumulate adds weight[h]·value to sum h, where sums holds them one behind
// the other, in float32.
func accumulate(sums, weights, value []float32) {
	n := len(value)
	for h, w := range weights {
		sum := sums[h*n:][:n]
		for i, v := range value {
			sum[i] += w * v
		}
	}
}
