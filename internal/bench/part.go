// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Part is one of the measurements that a program makes.
type Part struct {
	// Name is what --focus calls it.
	Name string
	// Programs are those of this repository that it needs.
	Programs []string
	// Run measures and adds the figures to the report.
	Run func(ctx context.Context, report *Report) error
}

// Choose returns the parts of the names, in the order of all; all of them without names. It is an error if one is not
// known, or if a program of theirs is not in dir.
func Choose(all []Part, dir string, names ...string) ([]Part, error) {
	for _, name := range names {
		if !slices.ContainsFunc(all, func(p Part) bool { return p.Name == name }) {
			return nil, fmt.Errorf("--focus %q: want one of %s", name, known(all))
		}
	}
	var chosen []Part
	for _, part := range all {
		if len(names) > 0 && !slices.Contains(names, part.Name) {
			continue
		}
		for _, program := range part.Programs {
			if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
				return nil, fmt.Errorf("program %s: %w (run make build, and set --bin or CAAS_BIN)", program, err)
			}
		}
		chosen = append(chosen, part)
	}
	return chosen, nil
}

func known(all []Part) string {
	var names []string
	for _, part := range all {
		names = append(names, part.Name)
	}
	return strings.Join(names, ", ")
}

// Run measures one part after another, also after one that fails, until ctx is done.
func (r *Report) Run(ctx context.Context, parts []Part) error {
	var failures []error
	for _, part := range parts {
		r.say("%s\n", part.Name)
		if err := part.Run(ctx, r); err != nil {
			failures = append(failures, fmt.Errorf("measure %s: %w", part.Name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failures...)
}
