package attention

// dot64 is the sum of the products, in float64.
func dot64(x, y []float32) float64 {
	sum := 0.0
	for i, v := range x {
		sum += float64(v) * float64(y[i])
	}
	return sum
}

// dots sets dst[h] to the dot product of key with query h; queries holds them end to end.
// Sums are float32, in one strand per query: four queries at a time keep the adder busy and
// read the key once.
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

// accumulate adds Σ weights[k][h]·values[k] to sum h; sums holds them end to end. It adds
// in float32, four values at a time, pairwise, and then one by one, so that a sum is loaded
// and stored once for four.
func accumulate(sums []float32, weights, values [][]float32) {
	for ; len(values) >= 4; weights, values = weights[4:], values[4:] {
		n := len(values[0])
		v0, v1, v2, v3 := values[0], values[1][:n], values[2][:n], values[3][:n]
		for h, w0 := range weights[0] {
			w1, w2, w3 := weights[1][h], weights[2][h], weights[3][h]
			sum := sums[h*n:][:n]
			for i, v := range v0 {
				sum[i] += (w0*v + w1*v1[i]) + (w2*v2[i] + w3*v3[i])
			}
		}
	}
	for k, value := range values {
		for h, w := range weights[k] {
			sum := sums[h*len(value):][:len(value)]
			for i, v := range value {
				sum[i] += w * v
			}
		}
	}
}
