package main

import (
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
	"github.com/drafthead/drafthead/hip/internal/asmgen/attention"
	"github.com/drafthead/drafthead/hip/internal/asmgen/bench"
	"github.com/drafthead/drafthead/hip/internal/asmgen/cpu"
	"github.com/drafthead/drafthead/hip/internal/asmgen/vec"
	"github.com/drafthead/drafthead/hip/internal/asmgen/weights"
)

// room is a package that has assembly.
type room struct {
	name, folder string // folder: from the module's root
	files        func() []*asm.File
}

var rooms = []room{
	{"weights", "weights", weights.Files},
	{"vec", "hip/vec", vec.Files},
	{"hip", "hip", cpu.Files},
	{"attention", "attention", attention.Files},
	{"bench", "examples/bench", bench.Files},
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("asmgen: ")
	at := -1
	if len(os.Args) == 2 {
		at = slices.IndexFunc(rooms, func(r room) bool { return r.name == os.Args[1] })
	}
	if at < 0 {
		var names []string
		for _, r := range rooms {
			names = append(names, r.name)
		}
		log.Fatal("usage: asmgen ", strings.Join(names, "|"), "\nwrites that package's files into the current folder")
	}
	if err := write(".", texts(rooms[at].files())); err != nil {
		log.Fatal(err)
	}
}

// texts returns the texts of files by their names.
func texts(files []*asm.File) map[string]string {
	t := map[string]string{}
	for _, f := range files {
		t[f.BaseName()+".s"] = f.Assembly()
		if declarations := f.Declarations(); declarations != "" {
			t[f.BaseName()+".go"] = declarations
		}
	}
	return t
}

// write puts files into a folder, and removes those that only an earlier generator wrote.
func write(folder string, texts map[string]string) error {
	old, err := filepath.Glob(filepath.Join(folder, "*_a*64.*")) // amd64 and arm64
	if err != nil {
		return err
	}
	for _, path := range old {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasPrefix(string(text), asm.Header) && texts[filepath.Base(path)] == "" {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
