package attention

import (
	"fmt"
	"sync"
)

// pages counts the references to each page. A page is free at 0 references,
// and shared, hence not to be written, at 2 or more.
type pages struct {
	mu     sync.Mutex
	refs   []int32
	free   []int32 // a stack; what was freed last is taken first
	closed bool
}

func (p *pages) init(n int) {
	p.refs, p.free = make([]int32, n), make([]int32, n)
	for i := range p.free {
		p.free[i] = int32(n - 1 - i)
	}
}

func (p *pages) freeCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.free)
}

// open returns an error if the cache is closed. The lock is held.
func (p *pages) open(op string) error {
	if p.closed {
		return fmt.Errorf("attention: %s: cache is %w", op, ErrClosed)
	}
	return nil
}

// retain adds a reference to each page.
func (p *pages) retain(op string, held []int32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open(op); err != nil {
		return err
	}
	for _, page := range held {
		p.refs[page]++
	}
	return nil
}

// release drops a reference to each page and frees those without any.
func (p *pages) release(held []int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(held)
}

// drop is release with the lock held.
func (p *pages) drop(held []int32) {
	for _, page := range held {
		p.refs[page]--
		if p.refs[page] == 0 {
			p.free = append(p.free, page)
		}
	}
}

// close refuses what needs the memory of pages.
func (p *pages) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}
