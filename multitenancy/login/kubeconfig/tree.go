// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"
)

// parse is the root of a kubeconfig; nil if the file holds nothing. It makes sure that the
// file is what the rest of the package takes it for.
func parse(path string, data []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil //nolint:nilnil // an empty file is a kubeconfig
	case err != nil:
		return nil, trouble(Corrupt, path, "is not YAML, so it has been left alone; repair or move it (%s)", err)
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, trouble(Corrupt, path, "has several documents, of which kubectl reads one; it has been left alone")
	}
	root := document.Content[0]
	// The root is what is written again, if need be.
	if root.HeadComment == "" {
		root.HeadComment = document.HeadComment
	}
	if root.FootComment == "" {
		root.FootComment = document.FootComment
	}
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil //nolint:nilnil // so is one with nothing but comments
	}
	if err := check(root); err != nil {
		return nil, trouble(Corrupt, path, "is not a kubeconfig, so it has been left alone: %s", err)
	}
	return root, nil
}

func check(root *yaml.Node) error {
	if root.Kind != yaml.MappingNode {
		return errors.New("it is not a mapping")
	}
	var whole map[string]any
	if err := root.Decode(&whole); err != nil { // such as keys that come twice
		return err
	}
	if kind := text(find(root, "kind")); kind != "" && kind != "Config" {
		return fmt.Errorf("its kind is %q", kind)
	}
	for _, section := range []string{clusters, users, contexts} {
		if err := checkSection(section, find(root, section)); err != nil {
			return err
		}
	}
	return nil
}

func checkSection(section string, list *yaml.Node) error {
	if list == nil || list.Kind == yaml.ScalarNode && list.Tag == "!!null" {
		return nil
	}
	if list.Kind != yaml.SequenceNode {
		return fmt.Errorf("%s is not a list", section)
	}
	for _, one := range list.Content {
		if one.Kind != yaml.MappingNode && one.Kind != yaml.AliasNode {
			return fmt.Errorf("%s has something that is not a mapping", section)
		}
	}
	return nil
}

// list is a section's entries.
func list(root *yaml.Node, section string) []*yaml.Node {
	if node := find(root, section); node != nil && node.Kind == yaml.SequenceNode {
		return node.Content
	}
	return nil
}

func index(entries []*yaml.Node, name string) int {
	return slices.IndexFunc(entries, func(one *yaml.Node) bool { return text(find(one, "name")) == name })
}

// blank is a kubeconfig with nothing in it.
func blank() *yaml.Node {
	root := newMapping()
	made := fields{root}
	made.setText("apiVersion", "v1")
	made.setText("kind", "Config")
	return root
}

// change sets an entry's fields. One of somebody else's is made anew.
func (e entry) onto(one *yaml.Node) *yaml.Node {
	key := body(e.section)
	if one == nil || markOf(find(one, key)) == nil {
		one = newMapping()
		made := fields{one}
		made.setText("name", e.name)
	}
	whole := fields{one}
	if inner := find(one, key); inner == nil || inner.Kind != yaml.MappingNode {
		whole.set(key, newMapping())
	}
	e.change(&fields{find(one, key)})
	return one
}

// applyTree makes the change to the parsed file.
func applyTree(root *yaml.Node, entries []entry, currentContext *string) {
	whole := fields{root}
	for _, e := range entries {
		section := find(root, e.section)
		if section == nil || section.Kind != yaml.SequenceNode {
			if e.remove {
				continue
			}
			whole.set(e.section, &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"})
			section = find(root, e.section)
		}
		at := index(section.Content, e.name)
		switch {
		case e.remove && at >= 0:
			section.Content = slices.Delete(section.Content, at, at+1)
		case e.remove:
		case at >= 0:
			section.Content[at] = e.onto(section.Content[at])
		default:
			section.Content = append(section.Content, e.onto(nil))
		}
	}
	if currentContext != nil {
		whole.set(current, scalar(*currentContext))
	}
}

func encode(node *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(node), encoder.Close()); err != nil {
		return nil, fmt.Errorf("encode kubeconfig: %w", err)
	}
	return out.Bytes(), nil
}
