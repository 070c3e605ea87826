// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/network"
)

// inject has the target's API server add an init container and a container to all pods of the room.
func (r *room) inject(t *testing.T) {
	t.Helper()
	kind := admissionv1.PatchTypeJSONPatch
	added := `{"name":"injected","image":"` + busybox + `","command":["sh","-c","echo injected; sleep 1"]}`
	r.webhook(t, 9555, func() *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true, PatchType: &kind, Patch: []byte(
			`[{"op":"add","path":"/spec/containers/-","value":` + added + `},{"op":"add","path":"/spec/initContainers","value":[` +
				strings.Replace(added, `"injected"`, `"injected-init"`, 1) + `]}]`)}
	})
	// The API server reads its configuration now and then.
	eventually(t.Context(), t, "the webhook is asked", func() (bool, string) {
		made, err := r.tryCreate(t)
		return err == nil && len(made.Spec.Containers) == 2, describeError(err)
	})
}

// tryCreate asks the target what would become of a pod.
func (r *room) tryCreate(t *testing.T) (*corev1.Pod, error) {
	t.Helper()
	return r.caas.CoreV1().Pods(r.target).Create(t.Context(), here(r.shell("probe", "true"), "probe"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

// webhook has the target's API server ask the test about every pod that is created in the room's namespace there.
func (r *room) webhook(t *testing.T, port int, respond func() *admissionv1.AdmissionResponse) {
	t.Helper()
	address, name := "10.88.0.1:"+strconv.Itoa(port), "fidelity.test-"+strconv.Itoa(port)
	ca, _, err := kube.NewCA("fidelity-webhook")
	require.NoError(t, err)
	serving, err := ca.Serving("fidelity-webhook", "10.88.0.1")
	require.NoError(t, err)
	listener, err := network.Listen(t.Context(), r.lab.NetNS(), "tcp", address)
	require.NoError(t, err)
	serveTLS(t, listener, serving, func(w http.ResponseWriter, request *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(request.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = respond()
		review.Response.UID = review.Request.UID
		review.Request = nil
		w.Header().Set("Content-Type", "application/json")
		assert.NoError(t, json.NewEncoder(w).Encode(review))
	})
	url, none, fail := "https://"+address+"/", admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Fail
	hooks := r.caas.AdmissionregistrationV1().MutatingWebhookConfigurations()
	require.NoError(t, ignoreMissing(hooks.Delete(t.Context(), name, metav1.DeleteOptions{})), "one of an earlier run")
	_, err = hooks.Create(t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: meta(name),
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "pods." + name, SideEffects: &none, FailurePolicy: &fail, AdmissionReviewVersions: []string{"v1"},
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: ca.PEM},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: r.target}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		assert.NoError(t, hooks.Delete(ctx, name, metav1.DeleteOptions{}))
	})
}

func describeError(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

// serveTLS serves until the test ends.
func serveTLS(t *testing.T, listener net.Listener, pair kube.KeyPair, handle http.HandlerFunc) {
	t.Helper()
	server := &http.Server{Handler: handle, ReadHeaderTimeout: 10 * time.Second, TLSConfig: tlsOf(t, pair)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		assert.ErrorIs(t, server.ServeTLS(listener, "", ""), http.ErrServerClosed)
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		assert.NoError(t, server.Shutdown(ctx))
		<-done
	})
}

func tlsOf(t *testing.T, pair kube.KeyPair) *tls.Config {
	t.Helper()
	certificate, err := tls.X509KeyPair(pair.Cert, pair.Key)
	require.NoError(t, err)
	return &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
}
