// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
	"github.com/cloudveneto/caas/internal/lab/image"
	"github.com/cloudveneto/caas/internal/lab/kube"
)

// recipesDir holds the recipes of the images that every lab has.
const recipesDir = "hack/images"

// buildPrograms builds Kubernetes and CoreDNS, which takes minutes on a fresh machine and nothing later.
func (l *Lab) buildPrograms(ctx context.Context, cfg Config, detail func(string)) error {
	if err := os.MkdirAll(l.dir, 0o750); err != nil {
		return fmt.Errorf("make directory of lab: %w", err)
	}
	build := gobuild.Config{Source: cfg.Source, Cache: cfg.Cache, Progress: detailWithTime(detail)}
	var err error
	if l.state.Binaries, err = kube.Build(ctx, build); err != nil {
		return err
	}
	if l.state.CoreDNS, err = kube.BuildCoreDNS(ctx, build); err != nil {
		return err
	}
	detail("")
	if err := l.installExecutable(cfg.Executable); err != nil {
		return err
	}
	return l.save()
}

// buildImages builds the images that are not in the cache.
func (l *Lab) buildImages(ctx context.Context, cfg Config, detail func(string)) error {
	built, err := cfg.buildImages(ctx, detail)
	if err != nil {
		return err
	}
	l.state.Images = map[string]string{}
	for _, one := range built {
		l.state.Images[one.Reference] = one.Layout
	}
	return l.save()
}

// BuildImages builds the images that every lab serves, unless the cache has them, and returns them all. Of cfg, only
// Source, Cache and Progress matter.
func BuildImages(ctx context.Context, cfg Config) ([]image.Image, error) {
	cfg, err := cfg.locate()
	if err != nil {
		return nil, err
	}
	var built []image.Image
	err = runStep(ctx, cfg.Progress, "build images", func(ctx context.Context, detail func(string)) (err error) {
		built, err = cfg.buildImages(ctx, detail)
		return err
	})
	return built, err
}

func (c Config) buildImages(ctx context.Context, detail func(string)) ([]image.Image, error) {
	recipes, err := image.LoadAll(filepath.Join(c.Source, recipesDir))
	if err != nil {
		return nil, err
	}
	options := image.Options{Source: c.Source, Cache: c.Cache, Progress: detailWithTime(detail)}
	var all []image.Image
	for _, recipe := range recipes {
		built, err := image.Build(ctx, options, recipe)
		if err != nil {
			return nil, err
		}
		all = append(all, built)
	}
	detail("")
	return all, nil
}

// detailWithTime shows what a build says and how long it has taken.
func detailWithTime(detail func(string)) func(step string, elapsed time.Duration) {
	return func(step string, elapsed time.Duration) {
		detail(fmt.Sprintf("%s, %s", step, elapsed.Round(time.Second)))
	}
}
