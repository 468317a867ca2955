package asm

import (
	"encoding/binary"
	"fmt"
)

// AddPairs adds to each float32 lane of sum the products of a pair of bfloat16 of a, a
// vector, and one of b, a vector or memory: VDPBF16PS. The assembler does not know it.
func (f *Func) AddPairs(b any, a, sum Vec) {
	f.Bytes(fmt.Sprintf("VDPBF16PS %v, %v, %v", b, a, sum), evex(0x52, b, a.number, sum.number)...)
}

// Narrow rounds a vector of float32 to half a vector of bfloat16, to the nearest:
// VCVTNEPS2BF16. Subnormal numbers become zero.
func (f *Func) Narrow(from, to Vec) {
	f.Bytes(fmt.Sprintf("VCVTNEPS2BF16 %v, %v", from.Z(), to.Y()), evex(0x72, from, 0, to.number)...)
}

// evex encodes an instruction of the map 0F38 with prefix F3, on 64 bytes: from is a vector
// or memory at a register, by is the number of the second operand, to that of the result.
// A bit of a register's number above the lowest three is inverted where the prefix has it.
func evex(opcode byte, from any, by, to int) []byte {
	const map0F38, reserved, full = 0x02, 0x04, 0x40
	inverted := func(number, bit, at int) byte { return byte(^number>>bit&1) << at }
	p1 := inverted(to, 3, 7) | inverted(to, 4, 4) | map0F38
	p2 := byte(^by&15)<<3 | reserved | prefixF3
	p3 := inverted(by, 4, 3) | full
	register := byte(to&7) << 3
	switch m := from.(type) {
	case Vec:
		p1 |= inverted(m.number, 4, 6) | inverted(m.number, 3, 5)
		return []byte{0x62, p1, p2, p3, opcode, 0xc0 | register | byte(m.number&7)}
	case Mem:
		base, known := numbers[GP(m.base)]
		if m.symbol != "" || !known {
			panic(fmt.Sprintf("%v is not memory at a register", m))
		}
		p1 |= inverted(int(base), 3, 5)
		// An offset takes four bytes, or one if it is a small number of whole vectors.
		const offset8, offset32, withIndex, noIndex = byte(0x40), byte(0x80), 4, 4
		form, offset := offset32, binary.LittleEndian.AppendUint32(nil, uint32(m.offset))
		if vectors := m.offset / 64; 64*vectors == m.offset && int(int8(vectors)) == vectors {
			form, offset = offset8, []byte{byte(vectors)}
		}
		if m.scale == 0 && base&7 != 4 {
			p1 |= 1 << 6
			return append([]byte{0x62, p1, p2, p3, opcode, form | register | base&7}, offset...)
		}
		index, scale := byte(noIndex), byte(0)
		if m.scale > 0 {
			index = numbers[m.index]
			for 1<<scale < m.scale {
				scale++
			}
		}
		p1 |= inverted(int(index), 3, 6)
		return append([]byte{0x62, p1, p2, p3, opcode, form | register | withIndex, scale<<6 | index&7<<3 | base&7}, offset...)
	}
	panic(fmt.Sprintf("%T is not an operand", from))
}
