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
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/test/property/site"
)

const (
	starts        = 3
	metricsWait   = 10 * time.Second
	decisionLimit = 1.0 // ms
	startLimit    = 10.0
)

func runAuthz(ctx context.Context, o *options, report *bench.Report) error {
	w, err := o.world(ctx)
	if err != nil {
		return err
	}
	var began times
	for range starts {
		if len(began) > 0 {
			if err := w.StopProgram(ctx, site.Authz); err != nil {
				return err
			}
		}
		took, err := w.StartProgram(ctx, site.Authz)
		if err != nil {
			return err
		}
		began = append(began, took)
	}
	if err := w.AwaitAdmission(ctx); err != nil {
		return err
	}
	count := fmt.Sprintf("%d objects", o.objects)
	report.AddTarget("authz: start to ready, "+count, began.at(50)/1000, "s", bench.Lower, startLimit)
	if err := o.decisions(ctx, w, report, count); err != nil {
		return err
	}
	return o.overhead(ctx, w, report)
}

// question is a review and whether it is to be denied.
type question struct {
	body   []byte
	denied bool
}

// questions are what the API server asks in the name of Alice: about hers, about others', lists, and creations.
func questions() ([]question, error) {
	mine := &authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{
		{Key: tenant.LabelUserID, Operator: metav1.LabelSelectorOpIn, Values: []string{alice}},
	}}
	asked := []authorizationv1.ResourceAttributes{
		{Verb: "list", Resource: "pods", Version: "v1", LabelSelector: mine},
		{Verb: "list", Resource: "configmaps", Version: "v1"},
		{Verb: "create", Resource: "pods", Version: "v1"},
		{Verb: "watch", Resource: "secrets", Version: "v1", LabelSelector: mine},
	}
	denied := []bool{false, true, false, false}
	for i := range inOwn {
		asked = append(asked, authorizationv1.ResourceAttributes{Verb: "get", Resource: "configmaps", Version: "v1", Name: numbered(i)})
		denied = append(denied, i%(inOwn/ofAlice) != 0)
		if !denied[len(denied)-1] { // half of what is asked for by name is hers
			for range inOwn/ofAlice - 2 {
				asked, denied = append(asked, asked[len(asked)-1]), append(denied, false)
			}
		}
	}
	user := users()["alice"]
	all := make([]question, 0, len(asked))
	for i := range asked {
		asked[i].Namespace = own
		review := authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user.Name, UID: user.UID, Groups: user.Groups, Extra: map[string]authorizationv1.ExtraValue{}, ResourceAttributes: &asked[i],
		}}
		review.APIVersion, review.Kind = "authorization.k8s.io/v1", "SubjectAccessReview"
		for key, values := range user.Extra {
			review.Spec.Extra[key] = values
		}
		body, err := json.Marshal(review)
		if err != nil {
			return nil, err
		}
		all = append(all, question{body, denied[i]})
	}
	return all, nil
}

// decisions asks the webhook as the API server does, at a steady rate.
func (o *options) decisions(ctx context.Context, w *world, report *bench.Report, count string) error {
	all, err := questions()
	if err != nil {
		return err
	}
	client, err := w.webhookClient()
	if err != nil {
		return err
	}
	ask := func(ctx context.Context, n int) error {
		one := all[n*7919%len(all)] // a prime, so that they are mixed
		answer, err := post(ctx, client, "https://"+w.Address(site.Authz)+"/authorize", one.body)
		if err == nil && bytes.Contains(answer, []byte(`"denied":true`)) != one.denied {
			err = fmt.Errorf("%s to %s", answer, one.body)
		}
		return err
	}
	if _, err := steadily(ctx, o.rate, o.period/10, ask); err != nil { // connections are made
		return err
	}
	plainClient := &http.Client{Timeout: metricsWait}
	before, err := scrape(ctx, plainClient, w.OpsAddress(site.Authz))
	if err != nil {
		return err
	}
	o.say("  %d decisions per second for %s\n", o.rate, o.period)
	took, err := steadily(ctx, o.rate, o.period, ask)
	if err != nil {
		return err
	}
	after, err := scrape(ctx, plainClient, w.OpsAddress(site.Authz))
	if err != nil {
		return err
	}
	within := after.Since(before)
	name := fmt.Sprintf("authz: decision at %d/s, %s", o.rate, count)
	report.Add(name+": p50", 1000*within.Quantile("mt_authz_decision_seconds", "", 0.5), "ms", bench.Lower)
	report.AddTarget(name+": p99", 1000*within.Quantile("mt_authz_decision_seconds", "", 0.99), "ms", bench.Lower, decisionLimit)
	took.add(report, "authz: the same as its client sees it, with TLS and HTTP")
	report.Add("authz: processor time per decision", 1e6*within["process_cpu_seconds_total"]/float64(len(took)), "µs", bench.Lower)
	pid, err := w.PID(site.Authz)
	if err != nil {
		return err
	}
	memory, err := resident(pid)
	if err != nil {
		return err
	}
	report.Add("authz: memory, "+count, memory/mebibyte, "MiB", bench.Lower)
	return nil
}

// request is one that a user makes in a namespace.
type request struct {
	name string
	do   func(ctx context.Context, client *kubernetes.Clientset, namespace string, n int) error
}

func requests() []request {
	return []request{
		{"GET", func(ctx context.Context, client *kubernetes.Clientset, namespace string, _ int) error {
			_, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, numbered(0), metav1.GetOptions{})
			return err
		}},
		{fmt.Sprintf("LIST %d of %d by selector", ofAlice, inOwn), func(ctx context.Context, client *kubernetes.Clientset, namespace string, _ int) error {
			list, err := client.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{LabelSelector: tenant.LabelUserID + "=" + alice})
			if err == nil && len(list.Items) != ofAlice {
				err = fmt.Errorf("the list has %d objects", len(list.Items))
			}
			return err
		}},
		{"CREATE pod", func(ctx context.Context, client *kubernetes.Clientset, namespace string, n int) error {
			_, err := client.CoreV1().Pods(namespace).Create(ctx, examplePod(fmt.Sprintf("pod-%06d", n)), metav1.CreateOptions{})
			return err
		}},
	}
}

// examplePod refers to a Secret, which admission looks at.
func examplePod(name string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "c", Image: "registry.example.org/pause",
			EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: secretRef}}}},
		}}},
	}
}

// overhead compares whole requests of a tenant, about whom the webhooks are asked, with those of a user and a namespace
// about which they are not, on the same API server, in turns.
func (o *options) overhead(ctx context.Context, w *world, report *bench.Report) error {
	with, errWith := clientset(w.As("alice"))
	without, errWithout := clientset(w.As(outsider))
	if err := errors.Join(errWith, errWithout); err != nil {
		return err
	}
	const warm = 20
	for _, one := range requests() {
		var asked, direct times
		for n := range o.requests + warm {
			if n == warm {
				asked, direct = nil, nil
			}
			err := errors.Join(
				asked.timed(func() error { return one.do(ctx, with, own, n) }),
				direct.timed(func() error { return one.do(ctx, without, plain, n) }),
			)
			if err != nil {
				return fmt.Errorf("%s: %w", one.name, err)
			}
		}
		report.Add("authz: "+one.name+" without webhooks: p50", direct.at(50), "ms", bench.Lower)
		asked.add(report, "authz: "+one.name+" with webhooks")
		report.Add("authz: "+one.name+" with to without: p50", asked.at(50)/direct.at(50), "×", bench.Lower)
	}
	return nil
}
