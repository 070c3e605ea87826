// SPDX-License-Identifier: Apache-2.0

package kubeconfig

import (
	"encoding/base64"

	"go.yaml.in/yaml/v3"
)

// fields is a mapping that is changed key by key, so that the rest of it stays.
type fields struct{ node *yaml.Node }

func newMapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"} }

// find is the value of a key; nil if there is none.
func find(mapping *yaml.Node, key string) *yaml.Node {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func text(node *yaml.Node) string {
	if node == nil || node.Kind != yaml.ScalarNode || node.Tag == "!!null" {
		return ""
	}
	return node.Value
}

// set gives a key a value; a comment at the end of its line stays.
func (f *fields) set(key string, value *yaml.Node) {
	if known := find(f.node, key); known != nil {
		value.LineComment = known.LineComment
		*known = *value
		return
	}
	f.node.Content = append(f.node.Content, scalar(key), value)
}

func (f *fields) setText(key, value string) {
	if value == "" {
		f.remove(key)
		return
	}
	if text(find(f.node, key)) != value {
		f.set(key, scalar(value))
	}
}

func (f *fields) remove(keys ...string) {
	for _, key := range keys {
		for i := 0; i+1 < len(f.node.Content); i += 2 {
			if f.node.Content[i].Value == key {
				f.node.Content = append(f.node.Content[:i], f.node.Content[i+2:]...)
				break
			}
		}
	}
}

func scalar(value string) *yaml.Node {
	node := &yaml.Node{}
	node.SetString(value)
	return node
}

// encoded is a value as a node. Only types of this package get here, which can be encoded.
func encoded(value any) *yaml.Node {
	node := &yaml.Node{}
	if err := node.Encode(value); err != nil {
		return scalar("")
	}
	return node
}

// mark notes that the entry is this program's, beside the notes of other programs.
func (f *fields) mark(mark Mark) {
	wanted := newMapping()
	noted := fields{wanted}
	noted.set("name", scalar(Extension))
	noted.set("extension", encoded(mark))
	list := find(f.node, "extensions")
	if list == nil || list.Kind != yaml.SequenceNode {
		f.set("extensions", &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{wanted}})
		return
	}
	for i, one := range list.Content {
		if text(find(one, "name")) == Extension {
			list.Content[i] = wanted
			return
		}
	}
	list.Content = append(list.Content, wanted)
}

// markOf is what this program has noted in an entry's fields; nil if the entry is not its own.
func markOf(body *yaml.Node) *Mark {
	list := find(body, "extensions")
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil
	}
	for _, one := range list.Content {
		if text(find(one, "name")) != Extension {
			continue
		}
		mark := &Mark{}
		if content := find(one, "extension"); content != nil && content.Decode(mark) != nil {
			return &Mark{} // it is ours all the same
		}
		return mark
	}
	return nil
}

func (c Cluster) set(f *fields) {
	f.setText("server", c.Server)
	f.remove("certificate-authority", "insecure-skip-tls-verify")
	f.setText("certificate-authority-data", base64.StdEncoding.EncodeToString(c.CA))
	f.mark(Mark{Mode: "cluster"})
}

func (c Context) set(f *fields) {
	f.setText("cluster", c.Cluster)
	f.setText("namespace", c.Namespace)
	f.setText("user", c.User)
	f.mark(Mark{Mode: "context"})
}

func (u User) set(f *fields) {
	f.remove("client-certificate", "client-certificate-data", "client-key", "client-key-data", "tokenFile", "username", "password", "auth-provider")
	f.setText("token", u.Token)
	if u.Exec == nil {
		f.remove("exec")
	} else {
		exec := find(f.node, "exec")
		if exec == nil || exec.Kind != yaml.MappingNode {
			f.set("exec", newMapping())
			exec = find(f.node, "exec")
		}
		// Variables that somebody has added to the plugin stay.
		plugin := fields{exec}
		plugin.setText("apiVersion", "client.authentication.k8s.io/v1")
		plugin.setText("command", u.Exec.Command)
		plugin.set("args", encoded(u.Exec.Args))
		plugin.setText("interactiveMode", "IfAvailable")
		plugin.set("provideClusterInfo", encoded(true))
	}
	f.mark(u.Mark)
}
