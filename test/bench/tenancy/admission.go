// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/test/property/site"
)

const (
	podRate        = 100
	admissionLimit = 5.0 // ms
)

func runAdmission(ctx context.Context, o *options, report *bench.Report) error {
	w, err := o.world(ctx)
	if err != nil {
		return err
	}
	if _, err := w.PID(site.Authz); err != nil {
		if _, err := w.StartProgram(ctx, site.Authz); err != nil {
			return err
		}
		if err := w.AwaitAdmission(ctx); err != nil {
			return err
		}
	}
	raw, stored, err := w.pods(ctx)
	if err != nil {
		return err
	}
	client, err := w.webhookClient()
	if err != nil {
		return err
	}
	for _, half := range []struct {
		path string
		pod  *corev1.Pod
	}{{"/mutate", raw}, {"/validate", stored}} {
		if err := o.admit(ctx, client, "https://"+w.Address(site.Admission), half.path, half.pod, report); err != nil {
			return err
		}
	}
	pid, err := w.PID(site.Admission)
	if err != nil {
		return err
	}
	memory, err := resident(pid)
	if err != nil {
		return err
	}
	report.Add(fmt.Sprintf("admission: memory, %d objects", o.objects), memory/mebibyte, "MiB", bench.Lower)
	return nil
}

// admit asks one of the webhooks about a pod, again and again.
func (o *options) admit(ctx context.Context, client *http.Client, address, path string, pod *corev1.Pod, report *bench.Report) error {
	review, err := podReview(pod)
	if err != nil {
		return err
	}
	o.say("  %d pods per second to %s for %s\n", podRate, path, o.period)
	ask := func(ctx context.Context, _ int) error {
		answer, err := post(ctx, client, address+path, review)
		if err == nil && !bytes.Contains(answer, []byte(`"allowed":true`)) {
			err = fmt.Errorf("%s", answer)
		}
		return err
	}
	_, errWarm := steadily(ctx, podRate, o.period/10, ask) // connections are made
	took, err := steadily(ctx, podRate, o.period, ask)
	if err := errors.Join(errWarm, err); err != nil {
		return err
	}
	name := fmt.Sprintf("admission: %s of a pod at %d/s, %d objects", path, podRate, o.objects)
	report.Add(name+": p50", took.at(50), "ms", bench.Lower)
	report.AddTarget(name+": p99", took.at(99), "ms", bench.Lower, admissionLimit)
	return nil
}

// pods are one as Alice sends it, and as it is after the API server has filled it in and the webhook has changed it.
func (w *world) pods(ctx context.Context) (raw, stored *corev1.Pod, err error) {
	client, err := clientset(w.As("alice"))
	if err != nil {
		return nil, nil, err
	}
	raw = examplePod("measured")
	stored, err = client.CoreV1().Pods(own).Create(ctx, raw, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return nil, nil, fmt.Errorf("try a pod: %w", err)
	}
	stored.TypeMeta = raw.TypeMeta
	raw = stored.DeepCopy()
	raw.Labels = nil
	return raw, stored, nil
}

func podReview(pod *corev1.Pod) ([]byte, error) {
	object, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	user := users()["alice"]
	info := authenticationv1.UserInfo{Username: user.Name, UID: user.UID, Groups: user.Groups, Extra: map[string]authenticationv1.ExtraValue{}}
	for key, values := range user.Extra {
		info.Extra[key] = values
	}
	kind, resource := metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	review := admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{
		UID: types.UID("8c1f3a52-0b7e-4d9c-9f0e-000000000001"), Kind: kind, Resource: resource, RequestKind: &kind, RequestResource: &resource,
		Namespace: own, Name: pod.Name, Operation: admissionv1.Create, UserInfo: info, Object: runtime.RawExtension{Raw: object},
	}}
	review.APIVersion, review.Kind = "admission.k8s.io/v1", "AdmissionReview"
	return json.Marshal(review)
}
