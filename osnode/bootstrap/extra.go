// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

const (
	maxDepth = 3  // of messages in messages
	maxParts = 32 // of a site or a user
)

// owned is what the platform's parts say, which others must not say differently.
type owned struct {
	// paths are the files that it writes.
	paths map[string]bool
	// lists are the keys to which others may append; keys are those that it alone sets.
	lists, keys []string
}

// extraParts are the parts of a site's or a user's text. It may be a cloud-config, a
// script, a boothook, or a MIME message with any of them. What cannot be checked, or is
// merged by rules of its own, is refused: includes, part handlers, archives, templates.
// Carriage returns at ends of lines are removed: a script with them would not run.
func extraParts(who, text string, platform owned) ([]part, error) {
	reader := extraReader{who: who, platform: platform}
	if err := reader.read("", text, 0); err != nil {
		return nil, err
	}
	return reader.parts, nil
}

type extraReader struct {
	who      string
	platform owned
	parts    []part
}

// read takes a text of a content type, or finds the type out if it is empty.
func (r *extraReader) read(contentType, text string, depth int) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	if !utf8.ValidString(text) {
		return errors.New("it is not text in UTF-8")
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	if contentType == "" {
		var err error
		if contentType, err = typeOf(text); err != nil {
			return err
		}
	}
	extension := ".sh"
	switch contentType {
	case "message/rfc822":
		return r.readMessage(text, depth)
	case typeCloudConfig:
		extension = ".cfg"
		says, err := r.platform.check(text)
		if err != nil {
			return err
		}
		if !says {
			return nil // cloud-init would complain
		}
	case typeBoothook:
		text = strings.TrimLeft(text, "\n")
	case typeScript, typeScript + "-per-boot", typeScript + "-per-instance", typeScript + "-per-once":
		if !strings.HasPrefix(text, "#!") {
			return errors.New("a script has to begin with #! and its interpreter")
		}
	default:
		return fmt.Errorf("parts of the type %s are not possible: use a cloud-config, a script or a boothook", contentType)
	}
	if len(r.parts) == maxParts {
		return fmt.Errorf("it has more than %d parts", maxParts)
	}
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	// Commands of cloud-configs are in a script called runcmd, so ours come after it.
	name := fmt.Sprintf("%s-%02d%s", r.who, len(r.parts)+1, extension)
	r.parts = append(r.parts, part{contentType: contentType, filename: name, content: text})
	return nil
}

// typeOf is the content type that cloud-init finds by a text's beginning.
func typeOf(text string) (string, error) {
	line, _, _ := strings.Cut(text, "\n")
	line = strings.TrimSpace(line)
	switch {
	case strings.HasPrefix(text, "#!"):
		return typeScript, nil
	case line == "#cloud-config":
		return typeCloudConfig, nil
	case line == "#cloud-boothook":
		return typeBoothook, nil
	case hasHeader(text):
		return "message/rfc822", nil
	}
	for start, why := range map[string]string{
		"#include":              "what is included cannot be checked, and may be another thing tomorrow",
		"#part-handler":         "it would be able to change how the platform's parts are read",
		"#cloud-config-archive": "use a MIME message instead",
		"#cloud-config-jsonp":   "it would change the platform's parts",
		"## template:":          "templates are not possible",
	} {
		if strings.HasPrefix(line, start) {
			return "", fmt.Errorf("%s is not possible: %s", start, why)
		}
	}
	return "", errors.New("cloud-init could not read it: it has to begin with #cloud-config, #!, #cloud-boothook, or the header of a MIME message")
}

// hasHeader tells whether text begins as a MIME message does.
func hasHeader(text string) bool {
	line, _, _ := strings.Cut(text, "\n")
	key, _, found := strings.Cut(line, ":")
	return found && (strings.EqualFold(key, "Content-Type") || strings.EqualFold(key, "MIME-Version"))
}

func (r *extraReader) readMessage(text string, depth int) error {
	if depth == maxDepth {
		return fmt.Errorf("messages in messages, more than %d deep", maxDepth)
	}
	parsed, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		return fmt.Errorf("read MIME message: %w", err)
	}
	if err := checkHeader(parsed.Header); err != nil {
		return err
	}
	mediaType, parameters, err := mime.ParseMediaType(parsed.Header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("read content type of MIME message: %w", err)
	}
	if !strings.HasPrefix(mediaType, "multipart/") {
		return r.readBody(mediaType, parsed.Header.Get("Content-Transfer-Encoding"), parsed.Body, depth)
	}
	if parameters["boundary"] == "" {
		return errors.New("the MIME message has no boundary")
	}
	return r.readParts(parsed.Body, parameters["boundary"], depth)
}

func (r *extraReader) readParts(body io.Reader, boundary string, depth int) error {
	if depth == maxDepth {
		return fmt.Errorf("messages in messages, more than %d deep", maxDepth)
	}
	reader := multipart.NewReader(body, boundary)
	for number := 1; ; number++ {
		next, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = r.readPart(next, depth)
		}
		if err != nil {
			return fmt.Errorf("part %d: %w", number, err)
		}
	}
}

func (r *extraReader) readPart(next *multipart.Part, depth int) error {
	if err := checkHeader(next.Header); err != nil {
		return err
	}
	mediaType, parameters := "text/plain", map[string]string(nil)
	if header := next.Header.Get("Content-Type"); header != "" {
		var err error
		if mediaType, parameters, err = mime.ParseMediaType(header); err != nil {
			return fmt.Errorf("read content type: %w", err)
		}
	}
	if strings.HasPrefix(mediaType, "multipart/") {
		return r.readParts(next, parameters["boundary"], depth+1)
	}
	return r.readBody(mediaType, next.Header.Get("Content-Transfer-Encoding"), next, depth)
}

// checkHeader refuses what would tell cloud-init to merge in another way.
func checkHeader(header map[string][]string) error {
	for name := range header {
		if strings.HasSuffix(strings.ToLower(name), "merge-type") {
			return fmt.Errorf("how it is merged is set by the platform: remove the header %s", name)
		}
	}
	return nil
}

func (r *extraReader) readBody(mediaType, encoding string, body io.Reader, depth int) error {
	switch strings.ToLower(encoding) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "", "7bit", "8bit", "binary":
	default:
		return fmt.Errorf("the transfer encoding %s is not known", encoding)
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	switch mediaType {
	case "text/plain", "text/x-not-multipart", "application/octet-stream":
		mediaType = "" // cloud-init looks at the beginning, too
	case "message/rfc822":
		return r.read(mediaType, string(content), depth+1)
	}
	if mediaType == "" && hasHeader(string(content)) {
		return r.read("message/rfc822", string(content), depth+1)
	}
	return r.read(mediaType, string(content), depth)
}

// check refuses a cloud-config that cannot be merged, or would undo the platform's, and
// tells whether it says anything.
func (o *owned) check(text string) (says bool, err error) {
	if strings.HasPrefix(text, "## template:") {
		return false, errors.New("templates are not possible")
	}
	var config map[string]any
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		return false, fmt.Errorf("the cloud-config is no YAML with keys: %w", err)
	}
	var problems []error
	for _, key := range slices.Sorted(maps.Keys(config)) {
		switch {
		case key == "merge_how" || key == "merge_type":
			problems = append(problems, fmt.Errorf("%s: how it is merged is set by the platform", key))
		case slices.Contains(o.keys, key):
			problems = append(problems, fmt.Errorf("%s: this is set by the platform", key))
		case slices.Contains(o.lists, key):
			if _, ok := config[key].([]any); !ok {
				problems = append(problems, fmt.Errorf("%s: this has to be a list", key))
			}
		}
	}
	problems = append(problems, o.checkFiles(config["write_files"])...)
	return len(config) > 0, errors.Join(problems...)
}

func (o *owned) checkFiles(list any) (problems []error) {
	files, _ := list.([]any)
	for i, file := range files {
		fields, ok := file.(map[string]any)
		name, isText := fields["path"].(string)
		switch {
		case !ok || !isText || !path.IsAbs(name):
			problems = append(problems, fmt.Errorf("write_files[%d]: this has no absolute path", i))
		case o.paths[path.Clean(name)]:
			problems = append(problems, fmt.Errorf("write_files[%d]: %s is written by the platform", i, path.Clean(name)))
		}
	}
	return problems
}
