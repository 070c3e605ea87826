// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/cloudveneto/caas/internal/lab"
)

const (
	stepWidth = 32
	// quietReport is how often a step that takes long is reported where lines cannot be written over.
	quietReport = 15 * time.Second
	// minimalWidth is assumed of a terminal that does not tell its width.
	minimalWidth = 80
)

// display shows progress: one line per step, written over while the step goes on if the output is a terminal.
type display struct {
	out      io.Writer
	terminal bool
	fd       int
	// reported is when the step that goes on was last reported, where lines cannot be written over.
	reported time.Duration
}

func newDisplay(out io.Writer) *display {
	d := &display{out: out}
	if file, isFile := out.(*os.File); isFile {
		d.fd = int(file.Fd())
		d.terminal = term.IsTerminal(d.fd)
	}
	return d
}

func (d *display) show(p lab.Progress) {
	switch {
	case d.terminal:
		d.overwrite(p)
	case p.Done:
		d.reported = 0
		d.write("%s\n", line(p))
	case p.Elapsed-d.reported >= quietReport:
		d.reported = p.Elapsed
		d.write("%s …\n", line(p))
	}
}

func (d *display) overwrite(p lab.Progress) {
	width, _, err := term.GetSize(d.fd)
	if err != nil || width < 1 {
		width = minimalWidth
	}
	text := []rune(line(p))
	text = text[:min(len(text), width-1)] // a line that wraps could not be written over
	end := ""
	if p.Done {
		end = "\n"
	}
	d.write("\r\x1b[K%s%s", string(text), end)
}

func line(p lab.Progress) string {
	text := fmt.Sprintf("%-*s %6.1fs", stepWidth, p.Step, p.Elapsed.Seconds())
	switch {
	case p.Err != nil:
		return text + "  failed"
	case p.Detail != "" && !p.Done:
		return text + "  " + p.Detail
	}
	return text
}

// write shows text. That it cannot be written must not end the work.
func (d *display) write(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }
