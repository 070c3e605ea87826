// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"io"
	"os"
	"time"
)

const consolePath = "/dev/console"

// console is where the machine prints. What programs write to it goes where Init's own
// output goes, which is a file outside.
type console struct {
	fifo *os.File
	out  io.Writer
	born time.Time
}

// openConsole opens it for reading and writing: then it has no end while nobody writes.
func openConsole() (*console, error) {
	fifo, err := os.OpenFile(consolePath, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open console: %w", err)
	}
	return &console{fifo: fifo, out: os.Stdout, born: time.Now()}, nil
}

// copy prints what is written to the console, until the machine ends.
func (c *console) copy() {
	go func() { _, _ = io.Copy(c.out, c.fifo) }()
}

// say prints a line of Init's own, with the time since the machine was switched on.
func (c *console) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	_, _ = fmt.Fprintf(c.out, "[%9.3f] %s\n", time.Since(c.born).Seconds(), line)
}
