package gpu

import (
	"bytes"
	"fmt"
	"unsafe"
)

// driver is a platform's library: the functions of the table, and what the platforms
// do differently.
type driver struct {
	platform string
	name     string // of the library
	version  int    // as the platform counts
	function [numCalls]uintptr
}

// The oldest releases with stream-ordered memory and every call for graphs.
var (
	oldestHIP  = 50_200_000 // 5.2
	oldestCUDA = 11_040     // 11.4
)

// openDriver loads a platform's driver; path overrides where it is looked for.
func openDriver(platform, path string) (*driver, error) {
	d := &driver{platform: platform}
	err := driverSearch(platform).open(path, func(library uintptr, name string) error {
		d.name = name
		return resolve(&d.function, platform, library, name, 0, firstCompilerCall)
	})
	if err != nil {
		return nil, err
	}
	if err := d.call("open", callInit, 0); err != nil {
		return nil, err
	}
	var version int32
	if err := d.call("open", callVersion, uintptr(unsafe.Pointer(&version))); err != nil {
		return nil, err
	}
	d.version = int(version)
	return d, d.checkVersion()
}

func (d *driver) checkVersion() error {
	got, want := hipVersion(d.version), hipVersion(oldestHIP)
	old := d.version < oldestHIP
	if d.platform == platformCUDA {
		got, want = cudaVersion(d.version), cudaVersion(oldestCUDA)
		old = d.version < oldestCUDA
	}
	if !old {
		return nil
	}
	return &LibraryError{Library: d.name, Err: fmt.Errorf("version %s, want %s or later", got, want)}
}

func hipVersion(v int) string  { return fmt.Sprintf("%d.%d", v/10_000_000, v/100_000%100) }
func cudaVersion(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// call calls a function of the table. Pointers among args must be converted in the
// call itself: they stay alive, and their memory in place, until it returns.
//
//go:uintptrescapes
func (d *driver) call(op string, c call, args ...uintptr) error {
	f := d.function[c]
	if f == 0 {
		return &DriverError{Op: op, Call: d.callName(c), Code: -1, Text: errAbsent.Error()}
	}
	if code := int32(callSymbol(f, args...)); code != 0 {
		return &DriverError{Op: op, Call: d.callName(c), Code: int(code), Text: d.errorText(c, code)}
	}
	return nil
}

func (d *driver) callName(c call) string {
	if names := symbols[c].names(d.platform); len(names) > 0 {
		return names[0]
	}
	return symbols[c].hip[0] + " or " + symbols[c].cuda[0]
}

func (d *driver) errorText(c call, code int32) string {
	switch {
	case c >= firstCompilerCall:
		return goString(callSymbol(d.function[callCompilerErrorText], uintptr(code)))
	case d.platform == platformCUDA:
		text := new(uintptr)
		callSymbol(d.function[callErrorText], uintptr(code), uintptr(unsafe.Pointer(text)))
		return goString(*text)
	}
	return goString(callSymbol(d.function[callErrorText], uintptr(code)))
}

// goString copies a C string.
func goString(p uintptr) string {
	if p == 0 {
		return "unknown"
	}
	// The address is C's, so the conversion hides nothing from the collector.
	s := *(*unsafe.Pointer)(unsafe.Pointer(&p))
	n := 0
	for *(*byte)(unsafe.Add(s, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(s), n))
}

func (d *driver) deviceCount() (int, error) {
	var n int32
	err := d.call("open", callDeviceCount, uintptr(unsafe.Pointer(&n)))
	return int(n), err
}

// Numbers of device attributes.
type attribute struct{ hip, cuda int }

var (
	attributeWaveSize     = attribute{87, 10}
	attributeComputeUnits = attribute{63, 16}
	attributeMajor        = attribute{cuda: 75} // compute capability
	attributeMinor        = attribute{cuda: 76}
	attributeShared       = attribute{cuda: 97} // bytes a block, if asked for
)

func (d *driver) attribute(handle int32, a attribute) (int, error) {
	number := a.hip
	if d.platform == platformCUDA {
		number = a.cuda
	}
	var v int32
	err := d.call("open", callDeviceAttribute, uintptr(unsafe.Pointer(&v)), uintptr(number), uintptr(handle))
	return int(v), err
}

// describe returns what the driver says of device n.
func (d *driver) describe(n int) (gpu GPU, handle int32, err error) {
	gpu = GPU{Index: n, Kind: d.platform}
	if err = d.call("open", callDeviceGet, uintptr(unsafe.Pointer(&handle)), uintptr(n)); err != nil {
		return gpu, 0, err
	}
	name := make([]byte, 256)
	if err = d.call("open", callDeviceName, uintptr(unsafe.Pointer(&name[0])), uintptr(len(name)), uintptr(handle)); err != nil {
		return gpu, 0, err
	}
	gpu.Name = string(name[:max(0, bytes.IndexByte(name, 0))])
	if err = d.call("open", callDeviceMemory, uintptr(unsafe.Pointer(&gpu.Memory)), uintptr(handle)); err != nil {
		return gpu, 0, err
	}
	if gpu.WaveSize, err = d.attribute(handle, attributeWaveSize); err != nil {
		return gpu, 0, err
	}
	if gpu.ComputeUnits, err = d.attribute(handle, attributeComputeUnits); err != nil {
		return gpu, 0, err
	}
	if d.platform == platformCUDA {
		if gpu.Shared, err = d.attribute(handle, attributeShared); err != nil {
			return gpu, 0, err
		}
	}
	gpu.Arch, err = d.architecture(n, handle)
	return gpu, handle, err
}

// architecture returns "sm_90" or "gfx942:sramecc+:xnack-".
func (d *driver) architecture(n int, handle int32) (string, error) {
	if d.platform == platformCUDA {
		major, err := d.attribute(handle, attributeMajor)
		if err != nil {
			return "", err
		}
		minor, err := d.attribute(handle, attributeMinor)
		return fmt.Sprintf("sm_%d%d", major, minor), err
	}
	// hipDeviceProp_t changes its size and layout between releases. It begins with
	// the name, 256 bytes, and holds one other text that begins with gfx.
	properties := make([]byte, 8192)
	if err := d.call("open", callProperties, uintptr(unsafe.Pointer(&properties[0])), uintptr(n)); err != nil {
		return "", err
	}
	text := properties[256:]
	at := bytes.Index(text, []byte("gfx"))
	if at < 0 {
		return "", &DriverError{Op: "open", Call: d.callName(callProperties), Code: -1, Text: "names no architecture"}
	}
	text = text[at:]
	return string(text[:max(0, bytes.IndexByte(text, 0))]), nil
}

// instantiate makes a recorded graph executable.
func (d *driver) instantiate(graph uintptr) (executable uintptr, err error) {
	if d.platform == platformCUDA {
		err = d.call("capture", callGraphInstantiate, uintptr(unsafe.Pointer(&executable)), graph, 0)
	} else {
		err = d.call("capture", callGraphInstantiate, uintptr(unsafe.Pointer(&executable)), graph, 0, 0, 0)
	}
	return executable, err
}
