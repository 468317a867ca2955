package safetensors

import (
	"hash/maphash"
	"iter"
)

// keySet holds the keys of one object by where they stand in the text: few in place, many in
// a hash table of 4 bytes a slot, which is far less than the keys themselves take.
type keySet struct {
	few   [4]uint32
	n     int
	table []uint32 // 1 + a place; 0 is empty
}

var keySeed = maphash.MakeSeed()

// add adds the key whose quote is at byte at, unless the set has it, and reports whether it
// did.
func (s *keySet) add(r *jsonReader, key string, at int) bool {
	if _, found := s.find(r, key); found {
		return false
	}
	if s.n < len(s.few) {
		s.few[s.n] = uint32(at)
		s.n++
		return true
	}
	if 4*(s.n+1) > 3*len(s.table) {
		s.grow(r)
	}
	s.insert(key, uint32(at))
	s.n++
	return true
}

// find returns where a key of the set stands.
func (s *keySet) find(r *jsonReader, key string) (at int, found bool) {
	if len(s.table) == 0 {
		for _, at := range s.few[:s.n] {
			if r.isKey(int(at), key) {
				return int(at), true
			}
		}
		return 0, false
	}
	for slot := range s.slots(key) {
		switch at := int(s.table[slot]) - 1; {
		case at < 0:
			return 0, false
		case r.isKey(at, key):
			return at, true
		}
	}
	return 0, false
}

// slots yields the places in the table where a key may be, in order.
func (s *keySet) slots(key string) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		mask := uint32(len(s.table) - 1)
		for slot := uint32(maphash.String(keySeed, key)) & mask; yield(slot); slot = (slot + 1) & mask {
		}
	}
}

func (s *keySet) insert(key string, at uint32) {
	for slot := range s.slots(key) {
		if s.table[slot] == 0 {
			s.table[slot] = at + 1
			return
		}
	}
}

// grow doubles the table. It reads the keys again, which costs no more than the first time.
func (s *keySet) grow(r *jsonReader) {
	old := s.table
	s.table = make([]uint32, max(16, 2*len(old)))
	if len(old) == 0 {
		for _, at := range s.few {
			s.insert(r.keyAt(int(at)), at)
		}
	}
	for _, entry := range old {
		if entry > 0 {
			s.insert(r.keyAt(int(entry-1)), entry-1)
		}
	}
}

// keyAt returns the key at byte at, which was read before.
func (r *jsonReader) keyAt(at int) string {
	again := jsonReader{data: r.data, pos: at}
	key, _ := again.string()
	return key
}

// isKey reports whether key stands at byte at.
func (r *jsonReader) isKey(at int, key string) bool {
	text := r.data[at+1:]
	if r.escaped { // a key may be spelled in several ways
		return r.keyAt(at) == key
	}
	return len(text) > len(key) && string(text[:len(key)]) == key && text[len(key)] == '"'
}
