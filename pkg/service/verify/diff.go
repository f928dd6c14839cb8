package verify

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// diff returns where two values differ as JSON, by the names of their fields.
func diff(have, want any) (fields []Field) {
	walk("", asJSON(have), asJSON(want), &fields)
	return fields
}

// asJSON returns a value as json.Unmarshal makes it: of maps, slices and simple values.
func asJSON(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	var p any
	_ = json.Unmarshal(b, &p) // it cannot fail on what was just marshalled
	return p
}

func walk(name string, have, want any, fields *[]Field) {
	if a, ok := have.(map[string]any); ok {
		if b, ok := want.(map[string]any); ok {
			keys := maps.Clone(a)
			maps.Copy(keys, b)
			for _, k := range slices.Sorted(maps.Keys(keys)) {
				walk(join(name, k), a[k], b[k], fields)
			}
			return
		}
	}
	if a, ok := have.([]any); ok {
		if b, ok := want.([]any); ok && len(a) == len(b) {
			for i := range a {
				walk(fmt.Sprintf("%s[%d]", name, i), a[i], b[i], fields)
			}
			return
		}
	}
	if h, w := text(have), text(want); h != w {
		*fields = append(*fields, Field{Name: name, Have: h, Journal: w})
	}
}

func join(name, field string) string {
	if name == "" {
		return field
	}
	return name + "." + field
}

func text(v any) string {
	if v == nil {
		return ""
	}
	b, _ := json.Marshal(v)
	return string(b)
}
