// SPDX-License-Identifier: Apache-2.0

package userdata

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	// maxSize bounds what compressed or encoded data may become.
	maxSize = 16 << 20
	// maxDepth bounds how deep multiparts lie in each other.
	maxDepth = 8

	cloudConfig  = "text/cloud-config"
	cloudArchive = "text/cloud-config-archive"
)

// part is a piece of user data that is no container of others.
type part struct {
	kind string
	// merge is how a cloud-config goes together with those before it; empty for the default.
	merge   string
	content []byte
}

var errTooDeep = errors.New("parts lie too deep in each other")

// split takes user data apart, in the order of the parts.
func split(data []byte, depth int) ([]part, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	data, err := gunzip(data)
	if err != nil {
		return nil, err
	}
	if isMessage(data) {
		message, err := mail.ReadMessage(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("read MIME header: %w", err)
		}
		return fromMIME(textproto.MIMEHeader(message.Header), message.Body, depth)
	}
	return fromText("", "", data, depth)
}

// isMessage tells whether data begins like a message, not like any other user data.
func isMessage(data []byte) bool {
	line, _, _ := bytes.Cut(bytes.TrimLeft(data, "\r\n"), []byte("\n"))
	lower := strings.ToLower(string(line))
	for _, header := range []string{"content-type:", "mime-version:", "from ", "from:", "content-transfer-encoding:"} {
		if strings.HasPrefix(lower, header) {
			return true
		}
	}
	return false
}

// fromMIME takes a message or a part of one apart.
func fromMIME(header textproto.MIMEHeader, body io.Reader, depth int) ([]part, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	kind, parameters, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		kind = "" // what the content begins with decides
	}
	if !strings.HasPrefix(kind, "multipart/") {
		return fromSingle(kind, header, body, depth)
	}
	var parts []part
	reader := multipart.NewReader(body, parameters["boundary"])
	for {
		next, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return parts, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read multipart: %w", err)
		}
		more, err := fromMIME(next.Header, next, depth+1)
		if err != nil {
			return nil, err
		}
		parts = append(parts, more...)
	}
}

// fromSingle reads a message that is no multipart.
func fromSingle(kind string, header textproto.MIMEHeader, body io.Reader, depth int) ([]part, error) {
	content, err := decode(header.Get("Content-Transfer-Encoding"), body)
	if err != nil {
		return nil, err
	}
	if content, err = gunzip(content); err != nil {
		return nil, err
	}
	merge := header.Get("Merge-Type")
	if merge == "" {
		merge = header.Get("X-Merge-Type")
	}
	return fromText(kind, merge, content, depth+1)
}

// fromText finds out what a piece is. As in cloud-init its first line is asked when its
// header says nothing of use.
func fromText(kind, merge string, content []byte, depth int) ([]part, error) {
	switch kind {
	case "", "text/plain", "text/x-not-multipart", "application/octet-stream", "application/gzip", "application/x-gzip":
		kind = sniff(content)
	}
	switch {
	case kind == cloudArchive:
		return fromArchive(content, depth)
	case kind == "" && isMessage(content):
		return split(content, depth+1)
	default:
		return []part{{kind: kind, merge: merge, content: content}}, nil
	}
}

// sniff is the kind of user data by its first line.
func sniff(content []byte) string {
	for _, known := range []struct{ prefix, kind string }{
		{"#cloud-config-archive", cloudArchive},
		{"#cloud-config", cloudConfig},
		{"#!", "text/x-shellscript"},
		{"#include-once", "text/x-include-once-url"},
		{"#include", "text/x-include-url"},
		{"#cloud-boothook", "text/cloud-boothook"},
		{"#part-handler", "text/part-handler"},
		{"## template: jinja", "text/jinja2"},
	} {
		if bytes.HasPrefix(content, []byte(known.prefix)) {
			return known.kind
		}
	}
	return ""
}

// fromArchive takes a list of parts apart.
func fromArchive(content []byte, depth int) ([]part, error) {
	var items []struct {
		Type    string `json:"type"`
		Content string `json:"content"`
	}
	if err := yaml.Unmarshal(content, &items); err != nil {
		return nil, fmt.Errorf("decode archive: %w", err)
	}
	var parts []part
	for _, item := range items {
		if depth > maxDepth {
			return nil, errTooDeep
		}
		more, err := fromText(item.Type, "", []byte(item.Content), depth+1)
		if err != nil {
			return nil, err
		}
		parts = append(parts, more...)
	}
	return parts, nil
}

func decode(encoding string, body io.Reader) ([]byte, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	default:
	}
	content, err := readAll(body)
	if err != nil {
		return nil, fmt.Errorf("decode part: %w", err)
	}
	return content, nil
}

// gunzip returns what data is a compressed form of, or data.
func gunzip(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return data, nil
	}
	reader, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	plain, err := readAll(reader)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return plain, nil
}

func readAll(reader io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(reader, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = fmt.Errorf("more than %d bytes", maxSize)
	}
	return data, err
}
