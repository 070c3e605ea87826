// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/log"
	"github.com/virtual-kubelet/virtual-kubelet/node"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/util/workqueue"

	"github.com/cloudveneto/caas/internal/logging"
)

// newPodController sets up the library's controller: no cache of Secrets,
// ConfigMaps or Services (their informers are demanded, but never started), no
// resolving of environments, no rate limit across pods, no end of retries.
func (p *Provider) newPodController() (*node.PodController, error) {
	idle := informers.NewSharedInformerFactory(p.cfg.Client, 0).Core().V1()
	forever := func(context.Context, string, int, time.Time, error) (*time.Duration, error) { return nil, nil }
	limit := func() workqueue.TypedRateLimiter[any] {
		return workqueue.NewTypedItemExponentialFailureRateLimiter[any](5*time.Millisecond, lastRetry)
	}
	controller, err := node.NewPodController(node.PodControllerConfig{
		PodClient:                                PodClient{provider: p},
		PodInformer:                              wholePods{p.pods},
		EventRecorder:                            quietRecorder{p.cfg.Recorder},
		Provider:                                 p,
		ConfigMapInformer:                        idle.ConfigMaps(),
		SecretInformer:                           idle.Secrets(),
		ServiceInformer:                          idle.Services(),
		SyncPodsFromKubernetesRateLimiter:        limit(),
		SyncPodsFromKubernetesShouldRetryFunc:    forever,
		DeletePodsFromKubernetesRateLimiter:      limit(),
		DeletePodsFromKubernetesShouldRetryFunc:  forever,
		SyncPodStatusFromProviderRateLimiter:     limit(),
		SyncPodStatusFromProviderShouldRetryFunc: forever,
		SkipDownwardAPIResolution:                true,
	})
	if err != nil {
		return nil, fmt.Errorf("pod controller: %w", err)
	}
	return controller, nil
}

func (p *Provider) runPodController(ctx context.Context, controller *node.PodController) error {
	ctx = log.WithLogger(ctx, LibraryLogger(logging.From(ctx)))
	if err := controller.Run(ctx, p.cfg.Workers); err != nil && ctx.Err() == nil {
		return fmt.Errorf("pod controller: %w", err)
	}
	return nil
}

// LibraryLogger makes the virtual-kubelet library log through logger. Only its
// errors are of interest to operators. The library's own adapter panics on some
// of its messages.
func LibraryLogger(logger *slog.Logger) log.Logger { //nolint:ireturn // the library's interface is what it takes
	return libraryLogger{logger: logger}
}

type libraryLogger struct {
	logger *slog.Logger
	// failed: an error is attached to the logger.
	failed bool
}

// failure is the level of what the library calls an error. Without an error value
// it is none: the library says so, for one, of every object whose deletion the
// provider holds back.
func (l libraryLogger) failure(arguments []any) slog.Level {
	isError := func(argument any) bool { _, ok := argument.(error); return ok }
	if l.failed || slices.ContainsFunc(arguments, isError) {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (l libraryLogger) write(level slog.Level, text func() string) {
	if l.logger.Enabled(context.Background(), level) {
		l.logger.Log(context.Background(), level, "virtual-kubelet library", "message", text())
	}
}

func plain(arguments []any) func() string {
	return func() string { return fmt.Sprint(arguments...) }
}

func formatted(format string, arguments []any) func() string {
	return func() string { return fmt.Sprintf(format, arguments...) }
}

func (l libraryLogger) Debug(a ...any)            { l.write(slog.LevelDebug-1, plain(a)) }
func (l libraryLogger) Debugf(f string, a ...any) { l.write(slog.LevelDebug-1, formatted(f, a)) }
func (l libraryLogger) Info(a ...any)             { l.write(slog.LevelDebug, plain(a)) }
func (l libraryLogger) Infof(f string, a ...any)  { l.write(slog.LevelDebug, formatted(f, a)) }
func (l libraryLogger) Warn(a ...any)             { l.write(slog.LevelDebug, plain(a)) }
func (l libraryLogger) Warnf(f string, a ...any)  { l.write(slog.LevelDebug, formatted(f, a)) }
func (l libraryLogger) Error(a ...any)            { l.write(l.failure(a), plain(a)) }
func (l libraryLogger) Errorf(f string, a ...any) { l.write(l.failure(a), formatted(f, a)) }

// Fatal does not end the process: no library may.
func (l libraryLogger) Fatal(a ...any)            { l.write(slog.LevelError, plain(a)) }
func (l libraryLogger) Fatalf(f string, a ...any) { l.write(slog.LevelError, formatted(f, a)) }

func (l libraryLogger) WithField(key string, value any) log.Logger { //nolint:ireturn // demanded by the library
	return l.WithFields(log.Fields{key: value})
}

func (l libraryLogger) WithFields(fields log.Fields) log.Logger { //nolint:ireturn // demanded by the library
	// The library attaches fields to every span; making loggers for messages that
	// nobody reads would cost more than the work itself.
	if !l.logger.Enabled(context.Background(), slog.LevelDebug) {
		return l
	}
	attributes := make([]any, 0, len(fields))
	for key, value := range fields {
		attributes = append(attributes, slog.Any(key, value))
	}
	return libraryLogger{logger: l.logger.With(attributes...), failed: l.failed}
}

func (l libraryLogger) WithError(err error) log.Logger { //nolint:ireturn // demanded by the library
	return libraryLogger{logger: l.logger.With("error", err), failed: true}
}
