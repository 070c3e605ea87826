// SPDX-License-Identifier: Apache-2.0

package unit

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Command is a command line of a unit.
type Command struct {
	Path string
	Args []string
	// MayFail says that it does not matter how the command ends.
	MayFail bool
	// Privileged runs it as root whoever the service's user is.
	Privileged bool
}

// Commands are the command lines of a key of [Service], with variables of the environment.
func (u *Unit) Commands(key string, environment map[string]string) ([]Command, error) {
	var commands []Command
	for _, line := range u.All("Service", key) {
		command, err := u.command(line, environment)
		if err != nil {
			return nil, fmt.Errorf("%s=%s: %w", key, line, err)
		}
		commands = append(commands, command)
	}
	return commands, nil
}

func (u *Unit) command(line string, environment map[string]string) (Command, error) {
	var command Command
	prefix := line[:len(line)-len(strings.TrimLeft(line, "-@:+!"))]
	command.MayFail, command.Privileged = strings.Contains(prefix, "-"), strings.ContainsAny(prefix, "+!")
	words, err := split(u.expand(line[len(prefix):]))
	if err != nil {
		return command, err
	}
	if !strings.Contains(prefix, ":") {
		words = substitute(words, environment)
	}
	if len(words) > 1 && strings.Contains(prefix, "@") {
		words = slices.Delete(words, 1, 2) // another name for the program to see, which none needs
	}
	if len(words) == 0 {
		return command, errors.New("no program")
	}
	command.Path, command.Args = words[0], words[1:]
	return command, nil
}

// expand replaces the specifiers of unit files that a machine's services use.
func (u *Unit) expand(text string) string {
	_, instance := Template(u.Name)
	extension := filepath.Ext(u.Name)
	prefix, _, _ := strings.Cut(strings.TrimSuffix(u.Name, extension), "@")
	return strings.NewReplacer(
		"%%", "%", "%n", u.Name, "%N", strings.TrimSuffix(u.Name, extension), "%p", prefix, "%i", instance, "%I", unescape(instance),
		"%t", "/run", "%S", "/var/lib", "%C", "/var/cache", "%L", "/var/log", "%E", "/etc",
	).Replace(text)
}

// unescape turns an instance's name back into a path.
func unescape(instance string) string {
	return strings.ReplaceAll(strings.ReplaceAll(instance, "-", "/"), `\x2d`, "-")
}

// split parts a command line at spaces outside of quotes.
func split(line string) ([]string, error) {
	var words []string
	var current strings.Builder
	var quote rune
	inWord, escaped := false, false
	for _, char := range line {
		switch {
		case escaped:
			current.WriteString(unquoted(char))
			escaped = false
		case char == '\\':
			escaped, inWord = true, true
		case quote != 0 && char == quote:
			quote = 0
		case quote != 0:
			current.WriteRune(char)
		case char == '\'' || char == '"':
			quote, inWord = char, true
		case char == ' ' || char == '\t':
			if inWord {
				words = append(words, current.String())
				current.Reset()
			}
			inWord = false
		default:
			current.WriteRune(char)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("a quote or backslash is not closed")
	}
	if inWord {
		words = append(words, current.String())
	}
	return words, nil
}

// unquoted is what a character after a backslash stands for.
func unquoted(char rune) string {
	switch char {
	case 'n':
		return "\n"
	case 't':
		return "\t"
	case 's':
		return " "
	default:
		return string(char)
	}
}

// substitute puts variables in: $NAME as a word of its own becomes as many words as its
// value has, ${NAME} is replaced where it stands, $$ is a dollar sign.
func substitute(words []string, environment map[string]string) []string {
	var result []string
	for _, word := range words {
		if name, ok := strings.CutPrefix(word, "$"); ok && isName(name) {
			values, err := split(environment[name])
			if err != nil {
				values = strings.Fields(environment[name])
			}
			result = append(result, values...)
			continue
		}
		result = append(result, replaceBraces(word, environment))
	}
	return result
}

func replaceBraces(text string, environment map[string]string) string {
	var result strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		result.WriteString(before)
		if !found {
			return result.String()
		}
		name, rest, closed := strings.Cut(strings.TrimPrefix(after, "{"), "}")
		switch {
		case strings.HasPrefix(after, "$"):
			result.WriteString("$")
			text = after[1:]
		case strings.HasPrefix(after, "{") && closed && isName(name):
			result.WriteString(environment[name])
			text = rest
		default:
			result.WriteString("$")
			text = after
		}
	}
}

func isName(name string) bool {
	for i, char := range name {
		letter := char == '_' || char >= 'a' && char <= 'z' || char >= 'A' && char <= 'Z'
		if !letter && (i == 0 || char < '0' || char > '9') {
			return false
		}
	}
	return name != ""
}

// Environment is what a unit adds to its processes' environment: its own variables, then
// those of files, which win.
func (u *Unit) Environment(root string) (map[string]string, error) {
	environment := map[string]string{}
	for _, line := range u.All("Service", "Environment") {
		words, err := split(u.expand(line))
		if err != nil {
			return nil, fmt.Errorf("variables %s: %w", line, err)
		}
		for _, word := range words {
			if name, value, ok := strings.Cut(word, "="); ok && isName(name) {
				environment[name] = value
			}
		}
	}
	for _, path := range u.All("Service", "EnvironmentFile") {
		path, optional := strings.CutPrefix(u.expand(path), "-")
		more, err := environmentFile(filepath.Join(root, path))
		if errors.Is(err, fs.ErrNotExist) && optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("variables of %s: %w", path, err)
		}
		maps.Copy(environment, more)
	}
	return environment, nil
}

func environmentFile(path string) (map[string]string, error) {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	environment := map[string]string{}
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, maxLine)
	var pending string
	for scanner.Scan() {
		line := pending + scanner.Text()
		pending = ""
		if rest, continued := strings.CutSuffix(line, `\`); continued {
			pending = rest
			continue
		}
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") || !isName(strings.TrimSpace(name)) {
			continue
		}
		environment[strings.TrimSpace(name)] = unquote(strings.TrimSpace(value))
	}
	return environment, scanner.Err()
}

// unquote removes the quotes around a whole value; what is inside stays as it is.
func unquote(value string) string {
	if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
		return value[1 : len(value)-1]
	}
	return value
}

// Duration is a key of [Service] that is a time span, or otherwise when it is not given.
// 0 means that there is no limit.
func (u *Unit) Duration(key string, otherwise time.Duration) time.Duration {
	return ParseDuration(u.Last("Service", key), otherwise)
}

// ParseDuration reads a time span as systemd writes it: a number of seconds, or numbers with
// units. It returns otherwise for what is none, and 0 for infinity.
func ParseDuration(text string, otherwise time.Duration) time.Duration {
	text = strings.ReplaceAll(text, " ", "")
	switch text {
	case "":
		return otherwise
	case "infinity", "0":
		return 0
	}
	for _, name := range [][2]string{{"min", "m"}, {"sec", "s"}, {"hr", "h"}} {
		text = strings.ReplaceAll(text, name[0], name[1])
	}
	if last := text[len(text)-1]; last >= '0' && last <= '9' {
		text += "s"
	}
	span, err := time.ParseDuration(text)
	if err != nil || span < 0 {
		return otherwise
	}
	return span
}
