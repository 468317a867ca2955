package hip

const leastSIMD = SIMDNEON

func bestSIMD() SIMD { return SIMDNEON }
