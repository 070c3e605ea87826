// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// operation is one of RFC 6902's.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// diff is the patch that makes after of before. Lists are replaced as a whole.
func diff(before, after fields, path string) []operation {
	var operations []operation
	for _, key := range slices.Sorted(maps.Keys(before)) {
		at := path + "/" + escape(key)
		now, kept := after[key]
		if !kept {
			operations = append(operations, operation{Op: "remove", Path: at})
			continue
		}
		was, wasObject := before[key].(fields)
		is, isObject := now.(fields)
		switch {
		case wasObject && isObject:
			operations = append(operations, diff(was, is, at)...)
		case !reflect.DeepEqual(before[key], now):
			operations = append(operations, operation{Op: "replace", Path: at, Value: now})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if _, known := before[key]; !known {
			operations = append(operations, operation{Op: "add", Path: path + "/" + escape(key), Value: after[key]})
		}
	}
	return operations
}

func escape(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
