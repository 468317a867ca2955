package offline

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Resources is what the assembly says of one kernel. Registers are counted for
// AMD targets only.
type Resources struct {
	Kernel       string
	Threads      int // most threads of a block
	VectorRegs   int
	MatrixRegs   int
	ScalarRegs   int
	Spills       int // vector registers that went to memory
	ScalarSpills int // scalar registers that went to vector registers
	Stack        int // bytes of memory of a thread: spills, and arrays that are not in registers
	Shared       int // bytes
	Wave         int // 0: not said
	ArgsBytes    int // size of the kernel's one parameter
	FlatLoads    int // for AMD: loads of what may be the GPU's memory or a block's shared one
	GlobalLoads  int // for AMD: loads of what is the GPU's memory
}

// ErrAssembly is assembly that lacks something it should have.
var ErrAssembly = errors.New("unexpected assembly")

// Read returns the resources of all kernels in what [Compile] returned.
func Read(assembly string, t Target) ([]Resources, error) {
	if t.PTX() {
		return readPTX(assembly)
	}
	return readAMD(assembly)
}

// readAMD reads the metadata that becomes the code object's note.
func readAMD(assembly string) ([]Resources, error) {
	_, note, _ := strings.Cut(assembly, ".amdgpu_metadata\n")
	note, _, ok := strings.Cut(note, "\n\t.end_amdgpu_metadata")
	if !ok {
		return nil, fmt.Errorf("%w: no metadata", ErrAssembly)
	}
	var metadata struct {
		Kernels []struct {
			Name         string `yaml:".name"`
			Threads      int    `yaml:".max_flat_workgroup_size"`
			VectorRegs   int    `yaml:".vgpr_count"`
			MatrixRegs   int    `yaml:".agpr_count"`
			ScalarRegs   int    `yaml:".sgpr_count"`
			VectorSpills int    `yaml:".vgpr_spill_count"`
			ScalarSpills int    `yaml:".sgpr_spill_count"`
			Stack        int    `yaml:".private_segment_fixed_size"`
			Shared       int    `yaml:".group_segment_fixed_size"`
			Wave         int    `yaml:".wavefront_size"`
			Args         []struct {
				Offset int    `yaml:".offset"`
				Size   int    `yaml:".size"`
				Kind   string `yaml:".value_kind"`
			} `yaml:".args"`
		} `yaml:"amdhsa.kernels"`
	}
	if err := yaml.Unmarshal([]byte(note), &metadata); err != nil {
		return nil, fmt.Errorf("%w: metadata: %w", ErrAssembly, err)
	}
	var all []Resources
	for _, k := range metadata.Kernels {
		r := Resources{
			Kernel: k.Name, Threads: k.Threads, VectorRegs: k.VectorRegs, MatrixRegs: k.MatrixRegs, ScalarRegs: k.ScalarRegs,
			Spills: k.VectorSpills, ScalarSpills: k.ScalarSpills, Stack: k.Stack, Shared: k.Shared, Wave: k.Wave,
		}
		for i, a := range k.Args {
			if strings.HasPrefix(a.Kind, "hidden_") {
				continue
			}
			if i != 0 || a.Offset != 0 || a.Kind != "by_value" {
				return nil, fmt.Errorf("%w: parameter %d of %s is %s at %d, want one struct by value", ErrAssembly, i, k.Name, a.Kind, a.Offset)
			}
			r.ArgsBytes = a.Size
		}
		_, code, _ := strings.Cut(assembly, "\n"+k.Name+":")
		code, _, ok := strings.Cut(code, "\n.Lfunc_end")
		if !ok {
			return nil, fmt.Errorf("%w: no code of %s", ErrAssembly, k.Name)
		}
		r.FlatLoads, r.GlobalLoads = strings.Count(code, "\tflat_load_"), strings.Count(code, "\tglobal_load_")
		all = append(all, r)
	}
	return all, nil
}

var (
	ptxEntry  = regexp.MustCompile(`(?s)\.visible \.entry (\w+)\(\s*(.*?)\)(.*?)\n}\n`)
	ptxParam  = regexp.MustCompile(`\.param \.align \d+ \.b8 \w+\[(\d+)\]`)
	ptxShared = regexp.MustCompile(`\.shared \.align \d+ \.b8 \w+\[(\d+)\]`)
	ptxStack  = regexp.MustCompile(`\.local \.align \d+ \.b8\s+\w+\[(\d+)\]`)
	ptxBlock  = regexp.MustCompile(`\.maxntid (\d+)`)
)

func readPTX(assembly string) ([]Resources, error) {
	var all []Resources
	for _, entry := range ptxEntry.FindAllStringSubmatch(assembly, -1) {
		r := Resources{Kernel: entry[1]}
		if n := strings.Count(entry[2], ".param"); n != 1 || ptxParam.FindString(entry[2]) == "" {
			return nil, fmt.Errorf("%w: %s has %d parameters, want one struct by value", ErrAssembly, r.Kernel, n)
		}
		r.ArgsBytes, r.Threads = sum(ptxParam, entry[2]), sum(ptxBlock, entry[3])
		r.Shared, r.Stack = sum(ptxShared, entry[3]), sum(ptxStack, entry[3])
		all = append(all, r)
	}
	if all == nil {
		return nil, fmt.Errorf("%w: no entry", ErrAssembly)
	}
	return all, nil
}

// sum adds up the number in every match.
func sum(pattern *regexp.Regexp, text string) int {
	total := 0
	for _, match := range pattern.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(match[1]) // digits, by the pattern
		total += n
	}
	return total
}
