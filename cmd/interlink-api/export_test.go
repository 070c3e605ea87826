// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudveneto/caas/sidecar/api"
)

// Register registers the metrics that the program has.
func Register(registry *prometheus.Registry) error {
	gateway, _, err := newGateway(api.Config{PluginURL: "http://127.0.0.1:1"}, registry)
	if err == nil {
		gateway.Close()
	}
	return err
}
