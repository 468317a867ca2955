package sampling

// What a random number is for. Each draft of a chain has one of each.
const (
	purposeDraft  = iota // to draw the draft
	purposeAccept        // to accept it
	purposeNext          // to draw the token after the accepted drafts
)

// philox returns the four words that Philox 4×32-10 (Salmon et al., 2011) gives for a
// counter and a key.
func philox(c [4]uint32, k [2]uint32) [4]uint32 {
	for range 10 {
		a, b := uint64(0xd2511f53)*uint64(c[0]), uint64(0xcd9e8d57)*uint64(c[2])
		c = [4]uint32{uint32(b>>32) ^ c[1] ^ k[0], uint32(b), uint32(a>>32) ^ c[3] ^ k[1], uint32(a)}
		k[0] += 0x9e3779b9
		k[1] += 0xbb67ae85
	}
	return c
}

// random returns 64 random bits. The key is the seed; the counter is the position of the
// chain's first draft in the text, the draft's number with the purpose, and the stream:
//
//	First   Index | purpose << 16   Stream (64 bits)
//
// A text never has two chains that begin at one position, so no number is used twice.
func (p *Params) random(purpose uint32) uint64 {
	c := philox(
		[4]uint32{p.First, p.Index | purpose<<16, uint32(p.Stream), uint32(p.Stream >> 32)},
		[2]uint32{uint32(p.Seed), uint32(p.Seed >> 32)},
	)
	return uint64(c[1])<<32 | uint64(c[0])
}

// unit returns the upper 53 bits as a number from 0 to below 1.
func unit(bits uint64) float64 { return float64(bits>>11) * (1.0 / (1 << 53)) }
