// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"text/tabwriter"
)

// Direction says which way a figure improves.
type Direction string

// The two directions of a figure.
const (
	Lower  Direction = "lower"
	Higher Direction = "higher"
)

// Figure is one measured value.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Target is the value to reach, or nil when the figure is a reference only.
	Target *float64  `json:"target"`
	Better Direction `json:"better"`
}

// Reached reports whether the figure meets its target; one without is reached.
func (f Figure) Reached() bool {
	if f.Target == nil {
		return true
	}
	if f.Better == Higher {
		return f.Value >= *f.Target
	}
	return f.Value <= *f.Target
}

// Report collects figures in the order in which they were measured.
type Report struct {
	Figures []Figure
	// Progress receives a line per figure as it is measured.
	Progress io.Writer
}

// Add records a reference figure, one without a target.
func (r *Report) Add(name string, value float64, unit string, better Direction) {
	r.add(Figure{Name: name, Value: value, Unit: unit, Better: better})
}

// AddTarget records a figure that has a target.
func (r *Report) AddTarget(name string, value float64, unit string, better Direction, target float64) {
	r.add(Figure{Name: name, Value: value, Unit: unit, Better: better, Target: &target})
}

func (r *Report) add(figure Figure) {
	r.Figures = append(r.Figures, figure)
	_, _ = fmt.Fprintf(r.Progress, "    %-58s %10s %s\n", figure.Name, number(figure.Value), figure.Unit)
}

// WriteJSON writes one JSON object per line to path, whole or not at all.
func (r *Report) WriteJSON(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // figures are for everybody
		return fmt.Errorf("write figures: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".figures-*")
	if err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	defer func() { _ = os.Remove(file.Name()) }()
	encoder := json.NewEncoder(file)
	for _, figure := range r.Figures {
		if err := encoder.Encode(figure); err != nil {
			_ = file.Close()
			return fmt.Errorf("write figure %q: %w", figure.Name, err)
		}
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

// WriteTable prints the figures for people.
func (r *Report) WriteTable(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "FIGURE\tVALUE\tUNIT\tTARGET\tREACHED")
	for _, figure := range r.Figures {
		target, reached := "-", "-"
		if figure.Target != nil {
			sign := "≤"
			if figure.Better == Higher {
				sign = "≥"
			}
			target = sign + " " + number(*figure.Target)
			reached = "no"
			if figure.Reached() {
				reached = "yes"
			}
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", figure.Name, number(figure.Value), figure.Unit, target, reached)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print figures: %w", err)
	}
	return nil
}

// number keeps three significant digits and no exponent.
func number(value float64) string {
	switch size := math.Abs(value); {
	case size >= 100 || value == math.Trunc(value):
		return fmt.Sprintf("%.0f", value)
	case size >= 10:
		return fmt.Sprintf("%.1f", value)
	case size >= 1:
		return fmt.Sprintf("%.2f", value)
	default:
		return fmt.Sprintf("%.3f", value)
	}
}
