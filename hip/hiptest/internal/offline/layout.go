package offline

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/drafthead/drafthead/hip"
)

// Layout returns C++ that compiles only if the C++ struct of t's name has the fields of t,
// with the same names, offsets and types. Fields of a struct that t embeds count as t's.
func Layout(t reflect.Type) string {
	var b strings.Builder
	check := func(format string, args ...any) {
		condition := fmt.Sprintf(format, args...)
		fmt.Fprintf(&b, "static_assert(%s, %q);\n", condition, "Go: "+condition)
	}
	check("sizeof(%s) == %d", t.Name(), t.Size())
	for _, f := range reflect.VisibleFields(t) {
		if f.Type.Kind() == reflect.Struct { // its fields follow
			continue
		}
		check("__builtin_offsetof(%s, %s) == %d", t.Name(), f.Name, offsetOf(t, f.Index))
		of := fmt.Sprintf("decltype(%s::%s)", t.Name(), f.Name)
		if f.Type == reflect.TypeFor[hip.Ptr]() {
			check("__is_pointer(%s)", of)
			continue
		}
		check("__is_same(%s, %s)", of, cppTypes[f.Type.Kind()])
	}
	return b.String()
}

// offsetOf returns where a field begins, of t itself or of what t embeds.
func offsetOf(t reflect.Type, index []int) (offset uintptr) {
	for _, i := range index {
		f := t.Field(i)
		offset, t = offset+f.Offset, f.Type
	}
	return offset
}

var cppTypes = map[reflect.Kind]string{
	reflect.Int32: "int32", reflect.Uint32: "uint32", reflect.Int64: "int64", reflect.Uint64: "uint64",
	reflect.Float32: "float", reflect.Float64: "double",
}
