package hip

import "golang.org/x/sys/unix"

// hasBF16 reports whether the processor has FEAT_BF16. Package cpu of x/sys does not say.
func hasBF16() bool {
	const hwcap2, bf16 = 26, 1 << 14 // AT_HWCAP2 and HWCAP2_BF16
	auxiliary, err := unix.Auxv()
	if err != nil {
		return false
	}
	for _, v := range auxiliary {
		if v[0] == hwcap2 {
			return v[1]&bf16 != 0
		}
	}
	return false
}
