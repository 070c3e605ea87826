// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/go-logr/logr"
	kubelet "github.com/virtual-kubelet/virtual-kubelet/log"
	"k8s.io/klog/v2" //nolint:depguard // client-go logs through it; this is where that ends in slog
)

// Logr is logger for libraries that take a logr.Logger, as controller-runtime does.
func Logr(logger *slog.Logger) logr.Logger { return logr.FromSlogHandler(logger.Handler()) }

// CaptureKlog sends what Kubernetes' libraries log to logger. It changes klog's
// only, process-wide logger: programs call it once, before they start anything.
func CaptureKlog(logger *slog.Logger) { klog.SetSlogLogger(logger) }

// IntoKubelet returns a context whose logger the virtual-kubelet library finds too.
func IntoKubelet(ctx context.Context, logger *slog.Logger) context.Context {
	return kubelet.WithLogger(Into(ctx, logger), kubeletLogger{logger.Handler()})
}

// kubeletLogger implements the virtual-kubelet library's logger. The library
// logs errors and values of any type, not only strings.
type kubeletLogger struct{ handler slog.Handler }

var _ kubelet.Logger = kubeletLogger{}

func (l kubeletLogger) log(level slog.Level, text func() string) {
	ctx := context.Background() // the library's interface hands none over
	if !l.handler.Enabled(ctx, level) {
		return
	}
	var callers [1]uintptr
	runtime.Callers(4, callers[:]) // skip Callers, log, print and the method that was called
	// A handler's error has nowhere to go, as in slog itself.
	_ = l.handler.Handle(ctx, slog.NewRecord(time.Now(), level, text(), callers[0]))
}

func (l kubeletLogger) print(level slog.Level, args []any) {
	l.log(level, func() string { return fmt.Sprint(args...) })
}

func (l kubeletLogger) printf(level slog.Level, format string, args []any) {
	l.log(level, func() string { return fmt.Sprintf(format, args...) })
}

func (l kubeletLogger) Debug(args ...any)                 { l.print(slog.LevelDebug, args) }
func (l kubeletLogger) Debugf(format string, args ...any) { l.printf(slog.LevelDebug, format, args) }
func (l kubeletLogger) Info(args ...any)                  { l.print(slog.LevelInfo, args) }
func (l kubeletLogger) Infof(format string, args ...any)  { l.printf(slog.LevelInfo, format, args) }
func (l kubeletLogger) Warn(args ...any)                  { l.print(slog.LevelWarn, args) }
func (l kubeletLogger) Warnf(format string, args ...any)  { l.printf(slog.LevelWarn, format, args) }
func (l kubeletLogger) Error(args ...any)                 { l.print(slog.LevelError, args) }
func (l kubeletLogger) Errorf(format string, args ...any) { l.printf(slog.LevelError, format, args) }

// Fatal logs an error and goes on: whether a program ends is its own decision.
func (l kubeletLogger) Fatal(args ...any) { l.print(slog.LevelError, args) }

// Fatalf is Fatal with a format.
func (l kubeletLogger) Fatalf(format string, args ...any) { l.printf(slog.LevelError, format, args) }

func (l kubeletLogger) with(attributes ...slog.Attr) kubeletLogger {
	return kubeletLogger{l.handler.WithAttrs(attributes)}
}

func (l kubeletLogger) WithField(key string, value any) kubelet.Logger { //nolint:ireturn // the library's interface
	return l.with(slog.Any(key, value))
}

func (l kubeletLogger) WithFields(fields kubelet.Fields) kubelet.Logger { //nolint:ireturn // the library's interface
	attributes := make([]slog.Attr, 0, len(fields))
	for key, value := range fields {
		attributes = append(attributes, slog.Any(key, value))
	}
	return l.with(attributes...)
}

func (l kubeletLogger) WithError(err error) kubelet.Logger { //nolint:ireturn // the library's interface
	return l.with(slog.Any("error", err))
}
