package hip

// Bytes returns how much there is room for.
func (b *Buffer) Bytes() int64 { return b.bytes }

// Graphs returns the number of graphs that are kept.
func (r *Replayer) Graphs() int {
	n := 0
	for _, s := range r.known {
		if s.launch != nil {
			n++
		}
	}
	return n
}
