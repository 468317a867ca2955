// Asmgen writes the assembly of package weights for amd64, and the Go
// declarations that go with it. Run by go generate.
package main

import (
	"fmt"
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("asmgen: ")
	if len(os.Args) != 1 {
		log.Fatal("no arguments; writes simd_amd64.s and simd_decl_amd64.go into the current folder")
	}
	g := new(generator)
	g.tables()
	for _, level := range []vectors{avx2, avx512} {
		g.dots(level)
		g.products(level)
		g.sums(level)
		for _, d := range g.decoders(level) {
			g.dotsOf(level, level.name, d)
			g.decodeFloats(level, level.name, d)
		}
	}
	g.dotMXFP8Table()
	g.dotsOf(avx512, "VBMI", g.tableDecoder())
	g.decodeFloats(avx512, "VBMI", g.tableDecoder())
	g.tiles()
	for _, d := range g.tileDecoders() {
		for n := 1; n <= streamMost; n++ {
			g.streamTiles(d, n)
		}
	}
	for name, text := range map[string]string{"simd_amd64.s": g.assembly(), "simd_decl_amd64.go": g.declarations()} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// vectors is a width of vectors and how its instructions are spelled.
type vectors struct {
	name     string // suffix of functions
	register string // Y or Z
	bytes    int
	xor      string
}

var (
	avx2   = vectors{"AVX2", "Y", 32, "VPXOR"}
	avx512 = vectors{"AVX512", "Z", 64, "VPXORD"}
)

// lanes is the float32 values of a vector.
func (v vectors) lanes() int { return v.bytes / 4 }

// r names vector register i.
func (v vectors) r(i int) string { return fmt.Sprintf("%s%d", v.register, i) }

// half names the lower half of register i.
func (v vectors) half(i int) string {
	if v.bytes == 64 {
		return fmt.Sprintf("Y%d", i)
	}
	return fmt.Sprintf("X%d", i)
}
