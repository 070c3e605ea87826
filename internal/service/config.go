// SPDX-License-Identifier: Apache-2.0

package service

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/httpserver"
)

// ReadConfig reads a configuration file over settings, which have the defaults, and returns them. Unknown keys are errors.
// complete does the rest and reports all that is wrong.
func ReadConfig[T any](path string, settings *T, complete func() error) (*T, error) {
	content, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if err := yaml.UnmarshalStrict(content, settings); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	if err := complete(); err != nil {
		return nil, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return settings, nil
}

// ReadPart reads a file that a field of the configuration names. Without a path it returns fallback.
func ReadPart[T any](field, path string, fallback T, parse func(content []byte) (T, error)) (T, error) {
	if path == "" {
		return fallback, nil
	}
	content, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return fallback, fmt.Errorf("%s: %w", field, err)
	}
	part, err := parse(content)
	if err != nil {
		return fallback, fmt.Errorf("%s %s: %w", field, path, err)
	}
	return part, nil
}

// WebhookTLS is the section of a webhook's configuration by which only the API server may ask it.
type WebhookTLS struct {
	CertFile string `json:"certFile"`
	KeyFile  string `json:"keyFile"`
	// ClientCAFile is whom the API server's client certificate must be from.
	ClientCAFile string `json:"clientCAFile"`
}

// Missing names the fields that are empty; all are required.
func (t WebhookTLS) Missing() []string {
	var missing []string
	for _, required := range []struct{ field, path string }{
		{"certFile", t.CertFile}, {"keyFile", t.KeyFile}, {"clientCAFile", t.ClientCAFile},
	} {
		if required.path == "" {
			missing = append(missing, required.field)
		}
	}
	return missing
}

// Server is what the webhook's server needs of it.
func (t WebhookTLS) Server() *httpserver.TLS {
	return &httpserver.TLS{CertFile: t.CertFile, KeyFile: t.KeyFile, ClientCAFile: t.ClientCAFile, RequireClientCert: true}
}
