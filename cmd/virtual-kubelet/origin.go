// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/hop"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/rewind"
	"github.com/cloudveneto/caas/internal/telemetry"
	"github.com/cloudveneto/caas/provider/settings"
)

// startTimeout bounds what is asked of the API server before the start.
const startTimeout = 30 * time.Second

// hops measure the requests of this program.
type hops struct{ origin, farEnd *hop.Hop }

func newHops(registry prometheus.Registerer) (*hops, error) {
	origin, err := hop.New(registry, "origin", hop.Kubernetes)
	if err != nil {
		return nil, err
	}
	farEnd, err := hop.New(registry, "far-end", interlink.Operation)
	if err != nil {
		return nil, err
	}
	return &hops{origin: origin, farEnd: farEnd}, nil
}

// originClient returns a client of this cluster. Without limits of its own the
// API server's fairness decides, which knows more.
func originClient(kubeconfig string, s *settings.Settings, hops *hops) (kubernetes.Interface, *rest.Config, error) { //nolint:ireturn // client-go's own seam
	var config *rest.Config
	var err error
	if kubeconfig == "" {
		config, err = rest.InClusterConfig()
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("this cluster's configuration: %w", err)
	}
	config.QPS, config.Burst = s.ClientQPS, s.ClientBurst
	config.UserAgent = "virtual-kubelet/" + cli.Version()
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.Wrap(hops.origin.Transport)
	config.Wrap(telemetry.Transport)
	config.Wrap(rewind.Transport)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("this cluster's client: %w", err)
	}
	return client, config, nil
}

// clusterID tells this cluster apart from all others, for ever: the UID of its
// kube-system namespace or, for an identity that may not read it, a hash of its
// authority. Any other error must not choose between the two.
func clusterID(ctx context.Context, origin kubernetes.Interface, config *rest.Config) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	namespace, err := origin.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err == nil {
		return string(namespace.UID), nil
	}
	if !apierrors.IsForbidden(err) {
		return "", fmt.Errorf("identify this cluster: %w", err)
	}
	authority := config.CAData
	if len(authority) == 0 && config.CAFile != "" {
		if authority, err = os.ReadFile(config.CAFile); err != nil {
			return "", fmt.Errorf("identify this cluster: %w", err)
		}
	}
	if len(authority) == 0 {
		return "", errors.New("this cluster cannot be identified: set ClusterID in the configuration file")
	}
	sum := sha256.Sum256(authority)
	return "ca-" + hex.EncodeToString(sum[:16]), nil
}

// farEnd returns a client of the interLink API.
func farEnd(far *settings.FarEnd, hops *hops) (*interlink.Client, error) {
	tlsConfig, err := far.TLSConfig()
	if err != nil {
		return nil, err
	}
	transport, err := interlink.NewTransport(far.BaseURL, tlsConfig)
	if err != nil {
		return nil, err
	}
	return interlink.NewClient(interlink.ClientConfig{
		BaseURL: far.BaseURL,
		HTTP:    &http.Client{Transport: telemetry.Transport(hops.farEnd.Transport(transport))},
		Token:   far.Token,
		Streams: interlink.StreamConfig{Transport: transport, TLS: tlsConfig, Wrap: func(next http.RoundTripper) http.RoundTripper {
			return telemetry.Upgrade(hops.farEnd.Transport(next))
		}},
	})
}

// clientAuthorities are those by which the API server proves itself to kubelets,
// as the cluster publishes them, unless a file is configured.
func clientAuthorities(ctx context.Context, origin kubernetes.Interface, file string) ([]byte, error) {
	if file != "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	published, err := origin.CoreV1().ConfigMaps(metav1.NamespaceSystem).
		Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
	if err != nil && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("authorities of the API server: %w", err)
	}
	if err != nil || published.Data["client-ca-file"] == "" {
		logging.From(ctx).Warn("client certificates are not accepted at the kubelet port, so kubectl logs may not work; set KubeletClientCAFile", "error", err)
		return nil, nil
	}
	return []byte(published.Data["client-ca-file"]), nil
}
