// SPDX-License-Identifier: Apache-2.0

package unit

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// entry is one assignment of a unit file.
type entry struct{ section, key, value string }

// maxLine bounds a line of a unit file.
const maxLine = 1 << 20

// parse reads the assignments of a unit file in their order.
func parse(reader io.Reader) ([]entry, error) {
	scanner := bufio.NewScanner(reader)
	scanner.Buffer(nil, maxLine)
	var entries []entry
	var section, pending string
	number := 0
	for scanner.Scan() {
		number++
		line := scanner.Text()
		trimmed := strings.TrimSpace(line)
		// A comment between continued lines does not end the continuation.
		if strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";") {
			continue
		}
		line = pending + line
		pending = ""
		if rest, continued := strings.CutSuffix(line, `\`); continued {
			pending = rest + " "
			continue
		}
		switch trimmed = strings.TrimSpace(line); {
		case trimmed == "":
		case strings.HasPrefix(trimmed, "[") && strings.HasSuffix(trimmed, "]"):
			section = trimmed[1 : len(trimmed)-1]
		default:
			key, value, ok := strings.Cut(trimmed, "=")
			if !ok || section == "" {
				return nil, fmt.Errorf("line %d: %q is neither a section nor an assignment in one", number, trimmed)
			}
			entries = append(entries, entry{section: section, key: strings.TrimSpace(key), value: strings.TrimSpace(value)})
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", number+1, err)
	}
	if pending != "" {
		return nil, fmt.Errorf("line %d: nothing follows the backslash at its end", number)
	}
	return entries, nil
}

// Last is the value that the last assignment gave to a key; empty when there is none.
func (u *Unit) Last(section, key string) string {
	all := u.All(section, key)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

// All are the values of a key that may be assigned several times. An empty assignment
// takes back the ones before it.
func (u *Unit) All(section, key string) []string {
	var values []string
	for _, e := range u.entries {
		if e.section != section || e.key != key {
			continue
		}
		if e.value == "" {
			values = nil
			continue
		}
		values = append(values, e.value)
	}
	return values
}

// Words are the space-separated words of all values of a key.
func (u *Unit) Words(section, key string) []string {
	return strings.Fields(strings.Join(u.All(section, key), " "))
}

// Bool is a key's truth value, or otherwise when the key has none.
func (u *Unit) Bool(section, key string, otherwise bool) bool {
	switch strings.ToLower(u.Last(section, key)) {
	case "1", "yes", "y", "true", "t", "on":
		return true
	case "0", "no", "n", "false", "f", "off":
		return false
	default:
		return otherwise
	}
}
