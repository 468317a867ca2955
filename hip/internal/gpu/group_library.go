package gpu

import (
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"github.com/drafthead/drafthead/hip/internal/collective"
)

// groupCall names a function of RCCL or NCCL, which have the same.
type groupCall int

const (
	groupVersion groupCall = iota
	groupErrorText
	groupLastError // optional: more words
	groupNewID
	groupJoin
	groupAllReduce
	groupAllGather
	groupBroadcast
	groupAsyncError
	groupAbort
	groupDestroy

	numGroupCalls
)

var groupSymbols = [numGroupCalls]string{
	groupVersion: "ncclGetVersion", groupErrorText: "ncclGetErrorString", groupLastError: "ncclGetLastError",
	groupNewID: "ncclGetUniqueId", groupJoin: "ncclCommInitRank",
	groupAllReduce: "ncclAllReduce", groupAllGather: "ncclAllGather", groupBroadcast: "ncclBroadcast",
	groupAsyncError: "ncclCommGetAsyncError", groupAbort: "ncclCommAbort", groupDestroy: "ncclCommDestroy",
}

// oldestGroups is the first release of NCCL that graphs may hold operations of, and that
// can be aborted meanwhile. RCCL counts as NCCL does.
const oldestGroups = 21_100 // 2.11

// groupLibrary is RCCL or NCCL.
type groupLibrary struct {
	name     string
	function [numGroupCalls]uintptr
}

func groupSearch(platform string) search {
	if platform == platformCUDA {
		return search{groups: groups(named("libnccl.so.2", "libnccl.so")), folders: named("/usr/local/cuda/lib64", "/usr/local/cuda-*/lib64", "/opt/cuda/lib64")}
	}
	return search{groups: groups(named("librccl.so.1", "librccl.so")), folders: named("/opt/rocm/lib", "/opt/rocm-*/lib")}
}

// openGroupLibrary loads a platform's library; path overrides where it is looked for.
func openGroupLibrary(platform, path string) (*groupLibrary, error) {
	l := &groupLibrary{}
	err := groupSearch(platform).open(path, func(library uintptr, name string) error {
		l.name = name
		for c, symbol := range groupSymbols {
			f, err := findSymbol(library, symbol)
			if err != nil && groupCall(c) != groupLastError {
				return &LibraryError{Library: name, Symbol: symbol, Err: errAbsent}
			}
			l.function[c] = f
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var version int32
	if err := l.call("open", groupVersion, uintptr(unsafe.Pointer(&version))); err != nil {
		return nil, err
	}
	if version < oldestGroups {
		return nil, &LibraryError{Library: l.name, Err: fmt.Errorf("version %s, want %s or later", groupsVersion(int(version)), groupsVersion(oldestGroups))}
	}
	return l, nil
}

// groupsVersion is a version in words: 21805 is 2.18.5. Before 2.9 it was 2805 for 2.8.5.
func groupsVersion(v int) string {
	if v < 10_000 {
		return fmt.Sprintf("%d.%d.%d", v/1000, v/100%10, v%100)
	}
	return fmt.Sprintf("%d.%d.%d", v/10_000, v/100%100, v%100)
}

// call calls a function, as driver.call does.
//
//go:uintptrescapes
func (l *groupLibrary) call(op string, c groupCall, args ...uintptr) error {
	if code := int32(callSymbol(l.function[c], args...)); code != 0 {
		return l.failed(op, c, code)
	}
	return nil
}

// failed is the error of a call.
func (l *groupLibrary) failed(op string, c groupCall, code int32) error {
	text := goString(callSymbol(l.function[groupErrorText], uintptr(code)))
	if f := l.function[groupLastError]; f != 0 {
		if more := strings.TrimSpace(goString(callSymbol(f, 0))); more != "" && more != "unknown" {
			text += ": " + strings.ReplaceAll(more, "\n", "; ")
		}
	}
	return &DriverError{Op: op, Call: groupSymbols[c], Code: int(code), Text: text}
}

func (l *groupLibrary) newID() (id collective.ID, err error) {
	err = l.call("new group id", groupNewID, uintptr(unsafe.Pointer(&id)))
	return id, err
}

// join waits until all ranks have joined. The id is a struct of 128 bytes that is passed by
// value: on amd64 it lies on the stack, after the three arguments in registers, of which
// there are six; on arm64 its address is passed.
func (l *groupLibrary) join(communicator *uintptr, id *collective.ID, rank, size int) error {
	if runtime.GOARCH == "arm64" {
		return l.call("join group", groupJoin, uintptr(unsafe.Pointer(communicator)), uintptr(size), uintptr(unsafe.Pointer(id)), uintptr(rank))
	}
	w := (*[16]uintptr)(unsafe.Pointer(id))
	return l.call("join group", groupJoin, uintptr(unsafe.Pointer(communicator)), uintptr(size), uintptr(rank), 0, 0, 0,
		w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], w[12], w[13], w[14], w[15])
}
