// SPDX-License-Identifier: Apache-2.0

package userdata

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// File is a file that cloud-init would write.
type File struct {
	Path    string
	Content []byte
	// Mode has the permission bits, 0644 when none are given.
	Mode uint32
	// Owner is user:group, empty for root.
	Owner  string
	Append bool
}

// Files returns the files of all cloud-configs in user data in the order of writing.
func Files(data []byte) ([]File, error) {
	parts, err := split(data, 0)
	if err != nil {
		return nil, fmt.Errorf("user data: %w", err)
	}
	var merged []entry
	for number, part := range parts {
		if part.kind != cloudConfig {
			continue
		}
		var config document
		if err := yaml.Unmarshal(part.content, &config); err != nil {
			return nil, fmt.Errorf("user data: cloud-config %d: %w", number+1, err)
		}
		if config.WriteFiles != nil {
			merged = merge(merged, config.WriteFiles, part.merge, config.how())
		}
	}
	files := make([]File, 0, len(merged))
	for _, entry := range merged {
		file, err := entry.file()
		if err != nil {
			return nil, fmt.Errorf("user data: file %s: %w", entry.Path, err)
		}
		files = append(files, file)
	}
	return files, nil
}

// Find is the content of a file after all writing, and whether there is one.
func Find(files []File, path string) ([]byte, bool) {
	var content []byte
	found := false
	for _, file := range files {
		if file.Path != path {
			continue
		}
		found = true
		if file.Append {
			content = append(content, file.Content...)
		} else {
			content = append([]byte(nil), file.Content...)
		}
	}
	return content, found
}

// document is the part of a cloud-config that is of use here.
type document struct {
	WriteFiles []entry `json:"write_files"`
	MergeHow   any     `json:"merge_how"`
	MergeType  any     `json:"merge_type"`
}

// how is the way of merging that the document itself asks for, when it is written as text.
func (d document) how() string {
	for _, value := range []any{d.MergeHow, d.MergeType} {
		if text, ok := value.(string); ok {
			return text
		}
	}
	return ""
}

// merge puts the list of a later cloud-config together with those before. What the header
// of its part says counts more than what it says itself; by default the later one wins.
func merge(before, later []entry, header, own string) []entry {
	how := header
	if how == "" {
		how = own
	}
	switch options := strings.ReplaceAll(how, " ", ""); {
	case len(before) == 0:
		return later
	case strings.Contains(options, "list(append"):
		return append(before, later...)
	case strings.Contains(options, "list(prepend"):
		return append(later, before...)
	case strings.Contains(options, "dict(no_replace") || strings.Contains(options, "dict()"):
		return before
	default:
		return later
	}
}

// entry is an element of write_files.
type entry struct {
	Path        string `json:"path"`
	Content     string `json:"content"`
	Encoding    string `json:"encoding"`
	Permissions any    `json:"permissions"`
	Owner       string `json:"owner"`
	Append      bool   `json:"append"`
}

func (e entry) file() (File, error) {
	file := File{Path: e.Path, Content: []byte(e.Content), Mode: permissions(e.Permissions), Owner: e.Owner, Append: e.Append}
	var err error
	switch encoding := strings.ToLower(strings.TrimSpace(e.Encoding)); encoding {
	case "", "text/plain":
	case "b64", "base64":
		file.Content, err = unbase64(e.Content)
	case "gz", "gzip":
		file.Content, err = gunzip([]byte(e.Content))
	case "gz+base64", "gzip+base64", "gz+b64", "gzip+b64":
		if file.Content, err = unbase64(e.Content); err == nil {
			file.Content, err = gunzip(file.Content)
		}
	default:
		// cloud-init logs it and writes the text as it is.
	}
	return file, err
}

func unbase64(text string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
}

// permissions are octal digits in a text, or a number that YAML has read already. What is
// neither is not minded, as cloud-init does not.
func permissions(value any) uint32 {
	const usual = 0o644
	switch value := value.(type) {
	case string:
		if mode, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(value), "0o"), 8, 12); err == nil {
			return uint32(mode)
		}
	case float64:
		if value >= 0 && value <= 0o7777 {
			return uint32(value)
		}
	}
	return usual
}
