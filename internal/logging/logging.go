// SPDX-License-Identifier: Apache-2.0

// Package logging owns how this project's programs write logs: one slog.Logger,
// carried in the context, also under the libraries that log by logr, klog or
// virtual-kubelet's own interface.
package logging

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/go-logr/logr"
)

// Options choose level and form.
type Options struct {
	// Level is debug, info, warn or error.
	Level string
	// Format is text or json.
	Format string
}

// New returns a logger that writes to out.
func New(out io.Writer, options Options) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(options.Level)); err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", options.Level)
	}
	settings := &slog.HandlerOptions{Level: level}
	switch options.Format {
	case "text":
		return slog.New(slog.NewTextHandler(out, settings)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(out, settings)), nil
	default:
		return nil, fmt.Errorf("log format %q: want text or json", options.Format)
	}
}

// Into returns a context that carries logger, for From and for logr.FromContext.
func Into(ctx context.Context, logger *slog.Logger) context.Context {
	return logr.NewContextWithSlogLogger(ctx, logger)
}

// From returns the context's logger, or one that discards everything.
func From(ctx context.Context) *slog.Logger {
	if logger := logr.FromContextAsSlogLogger(ctx); logger != nil {
		return logger
	}
	return slog.New(slog.DiscardHandler)
}
