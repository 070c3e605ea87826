// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloudveneto/caas/internal/lab/gobuild"
)

const kubernetesModule = "k8s.io/kubernetes"

// Build returns a directory with etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet and
// kubectl: one program under many names. cfg.Target is ignored. From nothing it takes minutes, else milliseconds.
func Build(ctx context.Context, cfg gobuild.Config) (string, error) {
	var err error
	if cfg.Source, err = gobuild.FindSource(cfg.Source); err != nil {
		return "", err
	}
	const module = "hack/kube"
	version, err := requiredVersion(filepath.Join(cfg.Source, module, "go.mod"), kubernetesModule)
	if err != nil {
		return "", err
	}
	cfg.Target = gobuild.Target{
		Name:    "kube-all",
		Module:  module,
		Package: "./kube-all",
		LDFlags: versionFlags(version),
		Links:   []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"},
	}
	return gobuild.Build(ctx, cfg)
}

// BuildCoreDNS returns the path of a CoreDNS with the plugins that a cluster's DNS needs. cfg.Target is ignored.
func BuildCoreDNS(ctx context.Context, cfg gobuild.Config) (string, error) {
	cfg.Target = gobuild.Target{Name: "coredns", Module: "hack/coredns", Package: ".", LDFlags: "-s -w"}
	dir, err := gobuild.Build(ctx, cfg)
	return filepath.Join(dir, cfg.Target.Name), err
}

// versionFlags makes the components tell their version, on which their skew checks depend; without it they call
// themselves v0.0.0.
func versionFlags(version string) string {
	flags := []string{"-s", "-w"}
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, set := range []string{
			"gitVersion=" + version, "gitMajor=" + major, "gitMinor=" + minor, "gitTreeState=clean",
			"gitCommit=" + strings.Repeat("0", 40), "buildDate=2026-01-01T00:00:00Z",
		} {
			flags = append(flags, "-X", pkg+"."+set)
		}
	}
	return strings.Join(flags, " ")
}

// requiredVersion returns the version of a module that a go.mod file requires.
func requiredVersion(goMod, module string) (string, error) {
	file, err := os.Open(filepath.Clean(goMod))
	if err != nil {
		return "", fmt.Errorf("find version of %s: %w", module, err)
	}
	defer func() { _ = file.Close() }() // only read
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(strings.TrimPrefix(lines.Text(), "require "))
		if len(fields) >= 2 && fields[0] == module && strings.HasPrefix(fields[1], "v") {
			return fields[1], nil
		}
	}
	return "", errors.Join(fmt.Errorf("%s requires no %s", goMod, module), lines.Err())
}
