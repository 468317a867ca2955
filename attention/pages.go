package attention

import "sync"

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

// take gives a page to replace each shared one among held, whose indices it
// returns, and then grow pages more: all of them or, with an error, none.
func (p *pages) take(held []int32, grow int) (fresh []int32, shared []int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, ErrClosedCache
	}
	for i, page := range held {
		if p.refs[page] > 1 {
			shared = append(shared, i)
		}
	}
	left := len(p.free) - len(shared) - grow
	if left < 0 {
		return nil, nil, &CacheFullError{Need: len(shared) + grow, Free: len(p.free)}
	}
	fresh = append(fresh, p.free[left:]...)
	p.free = p.free[:left]
	for _, page := range fresh {
		p.refs[page] = 1
	}
	return fresh, shared, nil
}

// retain adds a reference to each page.
func (p *pages) retain(held []int32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosedCache
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
	for _, page := range held {
		p.refs[page]--
		if p.refs[page] == 0 {
			p.free = append(p.free, page)
		}
	}
}

// close tells whether it was open.
func (p *pages) close() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := !p.closed
	p.closed = true
	return was
}
