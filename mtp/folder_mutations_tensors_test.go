package mtp_test

import (
	"fmt"
	"slices"
	"strconv"
)

// tensorMutations change the header and the data of a shard.
var tensorMutations = []mutation{
	{"dtype", onTensor(unknown, func(m *mutant, _ *mutantShard, t *mutantTensor, _ int) {
		t.dtype = weirdDtypes[m.pick(len(weirdDtypes))]
	})},
	{"dimension", onTensor(unknown, func(m *mutant, _ *mutantShard, t *mutantTensor, _ int) {
		if len(t.shape) > 0 {
			t.shape[m.pick(len(t.shape))] = m.number()
		}
	})},
	{"more dimensions", onTensor(unknown, func(m *mutant, _ *mutantShard, t *mutantTensor, _ int) {
		for range 1 + m.pick(70) {
			t.shape = append(t.shape, m.number())
		}
	})},
	{"dimension of 1", onTensor(unknown, func(m *mutant, _ *mutantShard, t *mutantTensor, _ int) {
		t.shape = slices.Insert(t.shape, m.pick(len(t.shape)+1), "1")
	})},
	{"transposed", onTensor(unknown, func(m *mutant, _ *mutantShard, t *mutantTensor, _ int) { slices.Reverse(t.shape) })},
	{"fewer dimensions", onTensor(unknown, func(m *mutant, _ *mutantShard, t *mutantTensor, _ int) { t.shape = t.shape[:m.pick(len(t.shape)+1)] })},
	{"begin", onTensor(unknown, func(m *mutant, _ *mutantShard, t *mutantTensor, _ int) { t.begin = m.number() })},
	{"end", onTensor(unknown, func(m *mutant, _ *mutantShard, t *mutantTensor, _ int) { t.end = m.number() })},
	{"data of another", onTensor(unknown, func(m *mutant, s *mutantShard, t *mutantTensor, _ int) {
		t.data = s.tensors[m.pick(len(s.tensors))].data
	})},
	{"shorter data", onTensor(unknown, func(m *mutant, _ *mutantShard, t *mutantTensor, _ int) { t.data = t.data[:m.pick(len(t.data)+1)] })},
	{"values", onTensor(unknown, func(m *mutant, _ *mutantShard, t *mutantTensor, _ int) {
		t.data = slices.Clone(t.data)
		for range 1 + m.pick(8) {
			if len(t.data) > 0 {
				t.data[m.pick(len(t.data))] = byte(m.next())
			}
		}
	})},
	{"values alike", onTensor(unknown, func(m *mutant, _ *mutantShard, t *mutantTensor, _ int) {
		b := []byte{0, 0xff, 0x7f, 0x80}[m.pick(4)]
		t.data = slices.Repeat([]byte{b}, len(t.data))
	})},
	{"tensor name", onTensor(unknown, func(m *mutant, _ *mutantShard, t *mutantTensor, _ int) { t.name = m.text() })},
	{"tensor missing", onTensor(fatal, func(m *mutant, s *mutantShard, _ *mutantTensor, i int) { s.tensors = slices.Delete(s.tensors, i, i+1) })},
	{"tensor twice", onTensor(fatal, func(m *mutant, s *mutantShard, t *mutantTensor, _ int) { s.tensors = append(s.tensors, *t) })},
	{"tensors in another order", onTensor(harmless, func(m *mutant, s *mutantShard, _ *mutantTensor, i int) {
		j := m.pick(len(s.tensors))
		s.tensors[i], s.tensors[j] = s.tensors[j], s.tensors[i]
	})},
	{"foreign tensor", onTensor(harmless, func(m *mutant, s *mutantShard, _ *mutantTensor, i int) {
		s.tensors = slices.Insert(s.tensors, i, m.foreign())
	})},
	{"empty foreign tensor", onTensor(harmless, func(m *mutant, s *mutantShard, _ *mutantTensor, i int) {
		t := m.foreign()
		t.data, t.shape = nil, [][]string{{"0"}, {"0", "4611686018427387904"}, {"4294967296", "0", "4294967296"}, {"9223372036854775807", "0"}}[m.pick(4)]
		s.tensors = slices.Insert(s.tensors, i, t)
	})},
	{"strange tensor", onTensor(unknown, func(m *mutant, s *mutantShard, _ *mutantTensor, i int) {
		t := m.foreign()
		t.name = m.text()
		s.tensors = slices.Insert(s.tensors, i, t)
	})},
	{"many tensors", onTensor(unknown, func(m *mutant, s *mutantShard, _ *mutantTensor, _ int) {
		name, n := m.text(), 100*(1+m.pick(20))
		name = name[:min(len(name), 100)]
		for i := range n {
			t := m.foreign()
			t.name = name + strconv.Itoa(i) + ".weight"
			s.tensors = append(s.tensors, t)
		}
	})},
	{"many modules", onTensor(unknown, func(m *mutant, s *mutantShard, _ *mutantTensor, _ int) {
		for i := range 10 * (1 + m.pick(50)) {
			t := m.foreign()
			t.name = fmt.Sprintf("model.mtp.layers.%d.enorm.weight", i+2)
			s.tensors = append(s.tensors, t)
		}
	})},
	{"header length", onTensor(unknown, func(m *mutant, s *mutantShard, _ *mutantTensor, _ int) {
		length := make([]byte, 8)
		for i := range 1 + m.pick(8) {
			length[i] = byte(m.next())
		}
		s.length = string(length)
	})},
	{"header padding", onTensor(harmless, func(m *mutant, s *mutantShard, _ *mutantTensor, _ int) { s.pad += m.pick(5000) })},
	{"metadata", onTensor(harmless, func(m *mutant, s *mutantShard, _ *mutantTensor, _ int) {
		s.metadata = []string{"null", "{}", `{"format":"pt"}`, `{"a\u001b[0m":"b\n"}`}[m.pick(4)]
	})},
	{"strange metadata", onTensor(unknown, func(m *mutant, s *mutantShard, _ *mutantTensor, _ int) { s.metadata = m.value() })},
}
