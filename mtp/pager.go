package mtp

import "sync"

// pageOwner is who hands out the pages of a cache.
type pageOwner int

const (
	ownerUnknown pageOwner = iota
	ownerSequences
	ownerEngine
)

// pager knows the owner of a cache's pages. The first call that succeeds settles it. Calls
// under way hold it, so that of two at the same time one is refused, and one that fails
// leaves it as it was.
type pager struct {
	mu      sync.Mutex
	owner   pageOwner
	settled bool
	holds   int
}

// hold tells whether the owner is this one, or can still be; release follows then.
func (p *pager) hold(owner pageOwner) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owner != ownerUnknown && p.owner != owner {
		return false
	}
	p.owner = owner
	p.holds++
	return true
}

// release ends a hold, of a call that settles the owner or else has failed.
func (p *pager) release(settles bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holds--
	p.settled = p.settled || settles
	if p.holds == 0 && !p.settled {
		p.owner = ownerUnknown
	}
}

// hold holds the pager of the batch's cache.
func (r *resolved) hold() error {
	owner, field := ownerSequences, "Sequence"
	if r.Sequences[0].Sequence == nil {
		owner, field = ownerEngine, "BlockTable"
	}
	if !r.cache.pager.hold(owner) {
		return &InputError{Sequence: 0, Field: field, Got: "given", Want: "what the cache is used with: Sequences or BlockTables, not both"}
	}
	return nil
}

func (r *resolved) release(settles bool) { r.cache.pager.release(settles) }
