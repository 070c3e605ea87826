// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Publish puts the figures into the file at path, in place of earlier ones of the same names, and prints them to Progress.
// A report without figures leaves the file as it is.
func (r *Report) Publish(path string) error {
	if len(r.Figures) == 0 {
		return nil
	}
	known, err := ReadFigures(path)
	if err != nil {
		return err
	}
	all := &Report{Figures: append(slices.DeleteFunc(known, func(old Figure) bool {
		return slices.ContainsFunc(r.Figures, func(figure Figure) bool { return figure.Name == old.Name })
	}), r.Figures...)}
	if err := all.WriteJSON(path); err != nil {
		return err
	}
	r.say("\n")
	if err := r.WriteTable(r.Progress); err != nil {
		return err
	}
	r.say("\nwritten to %s\n", path)
	return nil
}

// say tells whoever waits for the figures how it goes.
func (r *Report) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.Progress, format, args...)
}

// ReadFigures returns the figures in a file that a Report has written; none if there is no file.
func ReadFigures(path string) ([]Figure, error) {
	content, err := os.ReadFile(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read figures: %w", err)
	}
	var all []Figure
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		var figure Figure
		if err := json.Unmarshal(lines.Bytes(), &figure); err != nil {
			return nil, fmt.Errorf("read figures from %s: %w", path, err)
		}
		all = append(all, figure)
	}
	return all, lines.Err()
}
