package attention

import "sync"

// owner says who hands out the pages of a cache.
type owner int

const (
	ownerUnknown   owner = iota
	ownerSequences       // the cache, to its sequences
	ownerTables          // an engine, by block tables of its own
)

// ownership records the owner of a cache's pages. The first call that succeeds settles it.
// Calls under way hold it: a call of the other kind at the same time is refused, and a call
// that fails settles nothing.
type ownership struct {
	mu      sync.Mutex
	owner   owner
	settled bool
	holds   int
}

// hold reports whether the owner is by, or can still be. If so, release must follow.
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

// release ends a hold. settles is set if the call succeeded.
func (o *ownership) release(settles bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.holds--
	o.settled = o.settled || settles
	if o.holds == 0 && !o.settled {
		o.owner = ownerUnknown
	}
}
