package attention

import "sync"

// owner is who hands out the pages of a cache.
type owner int

const (
	ownerUnknown   owner = iota
	ownerSequences       // the cache, to its sequences
	ownerTables          // an engine, by block tables of its own
)

// ownership knows the owner of a cache's pages. The first call that succeeds settles it.
// Calls under way hold it, so that of two at the same time one is refused, and one that
// fails leaves it as it was.
type ownership struct {
	mu      sync.Mutex
	owner   owner
	settled bool
	holds   int
}

// hold reports whether the owner is this one, or can still be; release follows then.
func (o *ownership) hold(by owner) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.owner != ownerUnknown && o.owner != by {
		return false
	}
	o.owner = by
	o.holds++
	return true
}

// release ends a hold, of a call that settles the owner or else has failed.
func (o *ownership) release(settles bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.holds--
	o.settled = o.settled || settles
	if o.holds == 0 && !o.settled {
		o.owner = ownerUnknown
	}
}
