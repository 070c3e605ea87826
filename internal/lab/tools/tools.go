// SPDX-License-Identifier: Apache-2.0

// Package tools builds programs that are used with a cluster and are no part of it: Helm, and metrics-server.
//
//	helm, err := tools.Helm(ctx, gobuild.Config{})
//
// Both come from the nested modules under hack/ and are kept in gobuild's cache. The package imports nothing of this
// repository but gobuild.
package tools

import (
	"context"
	"path/filepath"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
)

// Helm returns the path of Helm's program. cfg.Target is ignored. From nothing it takes minutes.
func Helm(ctx context.Context, cfg gobuild.Config) (string, error) {
	return build(ctx, cfg, gobuild.Target{Name: "helm", Module: "hack/helm", Package: "helm.sh/helm/v4/cmd/helm"})
}

// MetricsServer returns the path of metrics-server's program. cfg.Target is ignored. From nothing it takes minutes.
func MetricsServer(ctx context.Context, cfg gobuild.Config) (string, error) {
	return build(ctx, cfg, gobuild.Target{
		Name: "metrics-server", Module: "hack/metrics-server", Package: "sigs.k8s.io/metrics-server/cmd/metrics-server",
	})
}

func build(ctx context.Context, cfg gobuild.Config, target gobuild.Target) (string, error) {
	target.LDFlags = "-s -w"
	cfg.Target = target
	dir, err := gobuild.Build(ctx, cfg)
	return filepath.Join(dir, target.Name), err
}
