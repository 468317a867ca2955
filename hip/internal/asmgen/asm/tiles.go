package asm

import (
	"encoding/binary"
	"fmt"
)

// Tile is a tile register of AMX: 16 rows of 64 bytes. The assembler does not know
// the instructions.
type Tile int

// The prefixes of the instructions, as VEX encodes them.
const (
	noPrefix = 0
	prefixF3 = 2
	prefixF2 = 3
)

// TileConfig is the data of [Func.OpenTiles] that gives all eight tiles 16 rows of 64
// bytes: palette 1.
func TileConfig() []byte {
	config := make([]byte, 64)
	config[0] = 1
	for i := range 8 {
		config[16+2*i], config[48+i] = 64, 16
	}
	return config
}

// OpenTiles gives the tiles the shapes of a table, by way of AX.
func (f *Func) OpenTiles(table Mem) {
	f.Op("LEAQ", table, AX)
	f.Bytes("LDTILECFG (AX)", 0xc4, 0xe2, 0x78|noPrefix, 0x49, 0x00)
}

// CloseTiles gives the tiles back.
func (f *Func) CloseTiles() { f.Bytes("TILERELEASE", 0xc4, 0xe2, 0x78|noPrefix, 0x49, 0xc0) }

// ClearTile sets a tile to zero.
func (f *Func) ClearTile(t Tile) {
	f.Bytes(fmt.Sprintf("TILEZERO tile %d", t), 0xc4, 0xe2, 0x78|prefixF2, 0x49, 0xc0|byte(t)<<3)
}

// LoadTile loads 16 rows of 64 bytes from base on, stride bytes apart.
func (f *Func) LoadTile(base, stride GP, t Tile) { f.LoadTileAt(base, 0, stride, t) }

// LoadTileAt loads them from offset bytes after base on.
func (f *Func) LoadTileAt(base GP, offset int, stride GP, t Tile) {
	f.tileMemory("TILELOADD", prefixF2, base, offset, stride, t)
}

// StoreTile stores them.
func (f *Func) StoreTile(t Tile, base, stride GP) { f.StoreTileAt(t, base, 0, stride) }

// StoreTileAt stores them from offset bytes after base on.
func (f *Func) StoreTileAt(t Tile, base GP, offset int, stride GP) {
	f.tileMemory("TILESTORED", prefixF3, base, offset, stride, t)
}

// MultiplyTiles adds a · b, of pairs of bfloat16, to sum, of float32.
func (f *Func) MultiplyTiles(b, a, sum Tile) {
	f.Bytes(fmt.Sprintf("TDPBF16PS tile %d, tile %d, tile %d", b, a, sum),
		0xc4, 0xe2, byte(^b&15)<<3|prefixF3, 0x5c, 0xc0|byte(sum)<<3|byte(a))
}

// numbers are those of the general registers in encodings.
var numbers = map[GP]byte{
	AX: 0, CX: 1, DX: 2, BX: 3, SI: 6, DI: 7,
	R8: 8, R9: 9, R10: 10, R11: 11, R12: 12, R13: 13, R14: 14, R15: 15,
}

func (f *Func) tileMemory(name string, prefix byte, base GP, offset int, stride GP, t Tile) {
	b, i := numbers[base], numbers[stride]
	vex1 := byte(0xe2) // R, X, B inverted, and the map 0F38
	if i >= 8 {
		vex1 &^= 0x40
	}
	if b >= 8 {
		vex1 &^= 0x20
	}
	code := []byte{0xc4, vex1, 0x78 | prefix, 0x4b, byte(t)<<3 | 4, i&7<<3 | b&7}
	switch {
	case offset != 0:
		code[4] |= 0x80 // four bytes of it follow
		code = binary.LittleEndian.AppendUint32(code, uint32(offset))
	case b&7 == 5:
		panic("R13 as a base has another encoding")
	}
	f.Bytes(fmt.Sprintf("%s %v, tile %d", name, base.At(offset).Index(stride, 1), t), code...)
}
