// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// decode reads a configuration file into settings. problems are all keys that do not
// exist and all values of the wrong kind, each with its place; what can be read is read
// nevertheless, so that its own problems can be told too. err says that it is no YAML.
func decode(content []byte, settings *file) (problems []error, err error) {
	text, err := yaml.YAMLToJSONStrict(content)
	if err != nil {
		return nil, err
	}
	strict, err := kjson.UnmarshalStrict(text, settings)
	if err == nil {
		return strict, nil
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	search := search{wrap: func(value any) any { return value }}
	tree, ok := search.usable("", tree)
	if !ok {
		return search.problems, nil
	}
	*settings = file{}
	if text, err = json.Marshal(tree); err == nil {
		strict, err = kjson.UnmarshalStrict(text, settings)
	}
	return append(search.problems, strict...), err
}

// search finds values that cannot be decoded, by trying each by itself.
type search struct {
	// wrap makes a document with nothing but one value at the current place.
	wrap     func(any) any
	problems []error
}

// usable returns what of a value can be decoded; ok is false when nothing can.
func (s *search) usable(at string, value any) (rest any, ok bool) {
	switch value := value.(type) {
	case map[string]any:
		return value, s.fits(at, map[string]any{}, value) && s.keys(at, value)
	case []any:
		return value, s.fits(at, []any{}, value) && s.entries(at, value)
	default:
		return value, s.fits(at, value, value)
	}
}

// keys removes from an object what cannot be decoded; what is left can be.
func (s *search) keys(at string, object map[string]any) bool {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		rest, ok := s.within(func(v any) any { return map[string]any{key: v} }, strings.TrimPrefix(at+"."+key, "."), object[key])
		if object[key] = rest; !ok {
			delete(object, key)
		}
	}
	return true
}

// entries does so for a list; the places of the others stay.
func (s *search) entries(at string, list []any) bool {
	for i := range list {
		rest, ok := s.within(func(v any) any { return []any{v} }, fmt.Sprintf("%s[%d]", at, i), list[i])
		if list[i] = rest; !ok {
			list[i] = nil
		}
	}
	return true
}

// within looks at a value one step further in.
func (s *search) within(step func(any) any, at string, value any) (rest any, ok bool) {
	outer := s.wrap
	s.wrap = func(v any) any { return outer(step(v)) }
	defer func() { s.wrap = outer }()
	return s.usable(at, value)
}

// fits tells whether a value can stand at the current place, and records if not.
func (s *search) fits(at string, value, written any) bool {
	text, err := json.Marshal(s.wrap(value))
	if err == nil {
		err = json.Unmarshal(text, &file{})
	}
	if err == nil {
		return true
	}
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		err = fmt.Errorf("is a JSON %s, want %s", kind.Value, kind.Type)
	}
	switch written.(type) {
	case map[string]any, []any:
		s.problems = append(s.problems, fmt.Errorf("%s: %w", cmp.Or(at, "the file"), err))
	default:
		s.problems = append(s.problems, fmt.Errorf("%s: %v: %w", at, written, err))
	}
	return false
}
