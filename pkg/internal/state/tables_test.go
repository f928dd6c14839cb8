package state

import (
	"reflect"
	"testing"
)

// TestRecords: there are as many records as users, sessions and connections. None has a pointer,
// which the garbage collector would have to look at, and none grows unnoticed.
func TestRecords(t *testing.T) {
	for _, c := range []struct {
		record reflect.Type
		most   uintptr // bytes
	}{
		{reflect.TypeFor[user](), 72},
		{reflect.TypeFor[session](), 80},
		{reflect.TypeFor[connection](), 32},
		{reflect.TypeFor[rare](), 32},
		{reflect.TypeFor[hidden](), 88},
		{reflect.TypeFor[pending](), 48},
		{reflect.TypeFor[holder](), 4},
	} {
		if n := c.record.Size(); n > c.most {
			t.Errorf("a %v takes %d bytes, want %d", c.record, n, c.most)
		}
		if path := pointerIn(c.record); path != "" {
			t.Errorf("a %v has a pointer: %s", c.record, path)
		}
	}
}

// pointerIn returns where a type has a pointer; empty: it has none.
func pointerIn(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if path := pointerIn(t.Field(i).Type); path != "" {
				return t.Field(i).Name + " " + path
			}
		}
		return ""
	case reflect.Array:
		return pointerIn(t.Elem())
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.String, reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return t.String()
	}
	return ""
}

// TestInstant: times come back as they were, those before 1970 too.
func TestInstant(t *testing.T) {
	for _, ms := range []int64{0, 1, -1, 0xffff, 1 << 16, 1 << 32, 1_796_000_000_000, -1 << 47, 1<<47 - 1} {
		if got := instantOf(ms).ms(); got != ms {
			t.Errorf("%d ms come back as %d", ms, got)
		}
	}
}
