package hip

// RangeChecker is a device that says beforehand whether memory is its own, so that a
// caller can name the argument that is wrong before anything runs. [NewHost],
// [NewReference], the GPUs of [Open] and what [Check] returns are.
type RangeChecker interface {
	// CheckRange returns an [AccessError] unless the n bytes at p lie in one live
	// allocation, adoption or import, and may be written if write is set. It waits for
	// nothing and touches no memory.
	CheckRange(p Ptr, n int64, write bool) error
}

func (c *cpu) CheckRange(p Ptr, n int64, write bool) error { return c.mem.checkRange(p, n, write) }

func (g *gpu) CheckRange(p Ptr, n int64, write bool) error { return g.memory.checkRange(p, n, write) }

// CheckRange asks the mirror, which knows what was made known to the device itself.
func (c *checked) CheckRange(p Ptr, n int64, write bool) error {
	return c.mirror.checkRange(p, n, write)
}

func (m *memory) checkRange(p Ptr, n int64, write bool) error {
	if write {
		return m.check("write", p, n, true)
	}
	return m.check("read", p, n, false)
}
