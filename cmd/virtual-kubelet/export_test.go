// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/record"

	"github.com/cloudveneto/caas/provider"
	"github.com/cloudveneto/caas/provider/kubeletport"
	"github.com/cloudveneto/caas/provider/settings"
)

// Streams is how the program connects the kubelet port and the provider.
func Streams(pods *provider.Provider) kubeletport.Streams { return streams{pods} }

// Register registers the metrics that the program has.
func Register(kubeconfig string, s *settings.Settings, registry *prometheus.Registry) error {
	hops, err := newHops(registry)
	if err != nil {
		return err
	}
	origin, config, err := originClient(kubeconfig, s, hops)
	if err != nil {
		return err
	}
	far, err := farEnd(&s.FarEnd, hops)
	if err != nil {
		return err
	}
	objects, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	_, _, err = core(s, origin, objects, far, record.NewFakeRecorder(1), registry)
	return err
}
