package hip

import "golang.org/x/sys/unix"

// requestTiles asks Linux for the tile registers, which a process may use only
// with its permission (arch_prctl(2), ARCH_REQ_XCOMP_PERM of feature XTILEDATA).
func requestTiles() bool {
	const requestPermission, tileData = 0x1023, 18
	_, _, errno := unix.RawSyscall(unix.SYS_ARCH_PRCTL, requestPermission, tileData, 0)
	return errno == 0
}
