// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// errStyle is a way of writing YAML into which nothing can be spliced.
var errStyle = errors.New("the file is written in a style that cannot be spliced")

// change makes a change to a kubeconfig's text. anew tells that it could not be spliced in, so that
// the whole text is another one, with the same content.
func change(path string, data []byte, entries []entry, currentContext *string) (result []byte, anew bool, err error) {
	wanted, err := parse(path, data)
	if err != nil {
		return nil, false, err
	}
	if wanted == nil {
		made := blank()
		applyTree(made, entries, currentContext)
		result, err := encode(made)
		if len(bytes.TrimSpace(data)) > 0 { // comments
			result = append(append(slices.Clone(data), lineEnd(data)...), result...)
		}
		return result, false, err
	}
	applyTree(wanted, entries, currentContext)
	spliced, err := splice(path, data, entries, currentContext)
	if err == nil && same(path, spliced, wanted) {
		return spliced, false, nil
	}
	result, err = encode(wanted)
	if err != nil {
		return nil, false, err
	}
	if !same(path, result, wanted) {
		return nil, false, trouble(Corrupt, path, "is written in a way that this program cannot change without loss; it has been left alone")
	}
	return result, true, nil
}

// lineEnd is what has to be added before something can be appended.
func lineEnd(data []byte) []byte {
	if len(data) == 0 || bytes.HasSuffix(data, []byte("\n")) {
		return nil
	}
	return []byte("\n")
}

// same tells that a text says what a tree says.
func same(path string, data []byte, wanted *yaml.Node) bool {
	root, err := parse(path, data)
	if err != nil || root == nil {
		return false
	}
	var got, want any
	if root.Decode(&got) != nil || wanted.Decode(&want) != nil {
		return false
	}
	return reflect.DeepEqual(got, want)
}

// source is a kubeconfig as lines, which are counted from 0 here and from 1 by the parser.
type source struct {
	lines   []string
	newline string
	root    *yaml.Node
	edits   []edit
}

// edit replaces the lines from first up to, but without, end.
type edit struct {
	first, end int
	lines      []string
}

func splice(path string, data []byte, entries []entry, currentContext *string) ([]byte, error) {
	root, err := parse(path, data)
	if err != nil {
		return nil, err
	}
	if root.Style&yaml.FlowStyle != 0 {
		return nil, errStyle
	}
	text := newSource(data, root)
	for _, section := range []string{clusters, users, contexts} {
		own := slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return e.section != section })
		if err := text.section(section, own); err != nil {
			return nil, err
		}
	}
	if currentContext != nil {
		if err := text.current(*currentContext); err != nil {
			return nil, err
		}
	}
	return text.bytes(data), nil
}

func newSource(data []byte, root *yaml.Node) *source {
	text := &source{newline: "\n", root: root}
	if bytes.Contains(data, []byte("\r\n")) {
		text.newline = "\r\n"
	}
	text.lines = strings.Split(string(data), "\n")
	if last := len(text.lines) - 1; text.lines[last] == "" {
		text.lines = text.lines[:last]
	}
	for i := range text.lines {
		text.lines[i] = strings.TrimSuffix(text.lines[i], "\r")
	}
	return text
}

// bytes are the lines after the edits. Lines that no edit touches keep their ends.
func (s *source) bytes(data []byte) []byte {
	original := bytes.SplitAfter(data, []byte("\n"))
	slices.SortStableFunc(s.edits, func(a, b edit) int { return a.first - b.first })
	var out bytes.Buffer
	at := 0
	for _, one := range s.edits {
		for ; at < one.first && at < len(original); at++ {
			out.Write(original[at])
		}
		if written := out.Bytes(); len(written) > 0 && written[len(written)-1] != '\n' {
			out.WriteString(s.newline)
		}
		for _, line := range one.lines {
			out.WriteString(line + s.newline)
		}
		at = max(at, one.end)
	}
	for ; at < len(original); at++ {
		out.Write(original[at])
	}
	return out.Bytes()
}

// section edits a list of entries.
func (s *source) section(name string, entries []entry) error {
	if len(entries) == 0 {
		return nil
	}
	node := find(s.root, name)
	if node == nil {
		return s.append(name, entries)
	}
	if node.Kind != yaml.SequenceNode || len(node.Content) == 0 {
		return s.fill(name, entries)
	}
	if node.Style&yaml.FlowStyle != 0 {
		return errStyle
	}
	ranges, err := s.ranges(node)
	if err != nil {
		return err
	}
	indent := strings.Repeat(" ", node.Column-1)
	left := len(node.Content)
	var added []string
	for _, e := range entries {
		at := index(node.Content, e.name)
		switch {
		case e.remove && at >= 0:
			s.edits = append(s.edits, edit{first: ranges[at].first, end: ranges[at].end})
			left--
		case e.remove:
		case at >= 0:
			err = s.replace(ranges[at], e, indent)
		default:
			var lines []string
			lines, err = rendered(e.onto(nil), indent)
			added = append(added, lines...)
			left++
		}
		if err != nil {
			return err
		}
	}
	last := ranges[len(ranges)-1].end
	if len(added) > 0 {
		s.edits = append(s.edits, edit{first: last, end: last, lines: added})
	}
	if left == 0 {
		return s.emptied(name)
	}
	return nil
}

// replace changes one entry: of its lines alone, so that comments around it stay outside.
func (s *source) replace(at edit, e entry, indent string) error {
	snippet := strings.Join(s.lines[at.first:at.end], "\n") + "\n"
	var alone yaml.Node
	if err := yaml.Unmarshal([]byte(snippet), &alone); err != nil || len(alone.Content) != 1 ||
		alone.Content[0].Kind != yaml.SequenceNode || len(alone.Content[0].Content) != 1 {
		return errStyle
	}
	lines, err := rendered(e.onto(alone.Content[0].Content[0]), indent)
	if err != nil {
		return err
	}
	s.edits = append(s.edits, edit{first: at.first, end: at.end, lines: lines})
	return nil
}

func rendered(one *yaml.Node, indent string) ([]string, error) {
	data, err := encode(&yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{one}})
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	for i := range lines {
		if lines[i] != "" {
			lines[i] = indent + lines[i]
		}
	}
	return lines, nil
}

// ranges are the lines of a list's elements, without comments and blank lines after them.
func (s *source) ranges(list *yaml.Node) ([]edit, error) {
	dash := strings.Repeat(" ", list.Column-1) + "-"
	var all []edit
	for _, one := range list.Content {
		first := one.Line - 1
		for first >= 0 && !strings.HasPrefix(s.lines[first], dash) {
			first--
		}
		if first < 0 || len(all) > 0 && first <= all[len(all)-1].first {
			return nil, errStyle
		}
		all = append(all, edit{first: first})
	}
	for i := range all {
		end := s.after(list)
		if i+1 < len(all) {
			end = all[i+1].first
		}
		for floor := last(list.Content[i]); end > floor && !meaningful(s.lines[end-1]); end-- {
		}
		all[i].end = end
	}
	return all, nil
}

// after is the first line behind a section: that of the next key, or the file's end.
func (s *source) after(section *yaml.Node) int {
	end := len(s.lines)
	for i := 0; i < len(s.root.Content); i += 2 {
		if line := s.root.Content[i].Line - 1; line >= section.Line && line < end {
			end = line
		}
	}
	for i := section.Line - 1; i < end; i++ {
		if strings.HasPrefix(s.lines[i], "...") || strings.HasPrefix(s.lines[i], "---") {
			return i
		}
	}
	return end
}

// last is the number of lines up to a node's end, as far as the parser tells.
func last(node *yaml.Node) int {
	line := node.Line
	if node.Kind == yaml.ScalarNode && node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		line += strings.Count(strings.TrimRight(node.Value, "\n"), "\n") + 1
	}
	for _, child := range node.Content {
		line = max(line, last(child))
	}
	return line
}

func meaningful(line string) bool {
	line = strings.TrimSpace(line)
	return line != "" && !strings.HasPrefix(line, "#")
}

// append adds a section to the end.
func (s *source) append(name string, entries []entry) error {
	lines, err := s.rendered(name, entries)
	if err != nil || len(lines) == 0 {
		return err
	}
	return s.atEnd(lines)
}

func (s *source) atEnd(lines []string) error {
	end := len(s.lines)
	for i := s.root.Line - 1; i < end; i++ {
		if strings.HasPrefix(s.lines[i], "...") {
			end = i
		}
	}
	s.edits = append(s.edits, edit{first: end, end: end, lines: lines})
	return nil
}

func (s *source) rendered(name string, entries []entry) ([]string, error) {
	indent := strings.Repeat(" ", s.root.Column-1)
	lines := []string{indent + name + ":"}
	for _, e := range entries {
		if e.remove {
			continue
		}
		more, err := rendered(e.onto(nil), indent)
		if err != nil {
			return nil, err
		}
		lines = append(lines, more...)
	}
	if len(lines) == 1 {
		return nil, nil
	}
	return lines, nil
}

// nothing is a line whose key has no entries, with a comment perhaps.
var nothing = regexp.MustCompile(`^(\s*["']?[a-z-]+["']?\s*:)\s*(?:\[\s*\]|null|~)?\s*(#.*)?$`)

// fill puts entries where a section has none.
func (s *source) fill(name string, entries []entry) error {
	lines, err := s.rendered(name, entries)
	if err != nil || len(lines) == 0 {
		return err
	}
	line := s.key(name)
	parts := nothing.FindStringSubmatch(s.lines[line])
	if parts == nil {
		return errStyle
	}
	lines[0] = strings.TrimRight(parts[1]+" "+parts[2], " ")
	s.edits = append(s.edits, edit{first: line, end: line + 1, lines: lines})
	return nil
}

// emptied writes that a section has no entries any more.
func (s *source) emptied(name string) error {
	line := s.key(name)
	parts := nothing.FindStringSubmatch(s.lines[line])
	if parts == nil {
		return errStyle
	}
	s.edits = append(s.edits, edit{first: line, end: line + 1, lines: []string{strings.TrimRight(parts[1]+" [] "+parts[2], " ")}})
	return nil
}

// key is the line of a key of the file; it MUST be there.
func (s *source) key(name string) int {
	for i := 0; i < len(s.root.Content); i += 2 {
		if s.root.Content[i].Value == name {
			return s.root.Content[i].Line - 1
		}
	}
	return 0
}

// value is a line with one value that is easy to tell from its comment.
var value = regexp.MustCompile(`^(\s*["']?current-context["']?\s*:)\s*(?:"[^"\\]*"|'[^']*'|[^\s#"'&*|>!%@` + "`" + `][^#]*?)?\s*(\s#.*)?$`)

// current edits the context in use.
func (s *source) current(name string) error {
	written, err := yaml.Marshal(name)
	if err != nil {
		return fmt.Errorf("encode the context's name: %w", err)
	}
	plain := strings.TrimSuffix(string(written), "\n")
	node := find(s.root, current)
	if node == nil {
		return s.atEnd([]string{strings.Repeat(" ", s.root.Column-1) + current + ": " + plain})
	}
	line := s.key(current)
	parts := value.FindStringSubmatch(s.lines[line])
	if parts == nil || strings.Contains(plain, "\n") {
		return errStyle
	}
	if text(node) == name {
		return nil
	}
	s.edits = append(s.edits, edit{first: line, end: line + 1, lines: []string{parts[1] + " " + plain + parts[2]}})
	return nil
}
