// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// terminal asks whoever sits at the process' terminal. It uses that itself and not the standard
// streams, which may go to programs and files.
type terminal struct{}

const device = "/dev/tty"

// Interactive tells that there is somebody to ask: standard input is a terminal, and the process has one.
func (terminal) Interactive() bool {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return false
	}
	tty, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	return tty.Close() == nil
}

type typed struct {
	line string
	err  error
}

// Line asks for a line. When the context ends first, the terminal is left as it was found.
func (terminal) Line(ctx context.Context, question string, hidden bool) (string, error) {
	tty, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("ask on the terminal: %w", err)
	}
	number := int(tty.Fd())
	before, err := term.GetState(number)
	if err != nil {
		return "", errors.Join(fmt.Errorf("ask on the terminal: %w", err), tty.Close())
	}
	_, _ = tty.WriteString(question)
	answer := make(chan typed, 1)
	go func() { answer <- read(tty, hidden) }()
	select {
	case <-ctx.Done():
		// The reader stays until the process ends, which is now.
		_, _ = tty.WriteString("\n")
		return "", errors.Join(ctx.Err(), term.Restore(number, before))
	case one := <-answer:
		if hidden {
			_, _ = tty.WriteString("\n")
		}
		return one.line, errors.Join(one.err, tty.Close())
	}
}

func read(tty *os.File, hidden bool) typed {
	if !hidden {
		line, err := readLine(tty)
		return typed{line, wrapped(err)}
	}
	secret, err := term.ReadPassword(int(tty.Fd()))
	return typed{string(secret), wrapped(err)}
}

func wrapped(err error) error {
	if err != nil {
		return fmt.Errorf("ask on the terminal: %w", err)
	}
	return nil
}

// readLine reads up to the end of the line and no further: what follows may be meant for another program.
func readLine(from *os.File) (string, error) {
	var line strings.Builder
	letter := make([]byte, 1)
	for {
		n, err := from.Read(letter)
		switch {
		case err != nil:
			return "", err
		case n == 0:
			continue
		case letter[0] == '\n':
			return strings.TrimRight(line.String(), "\r"), nil
		}
		line.WriteByte(letter[0])
	}
}
