// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/test/property/site"
)

const (
	// inTransaction is how many operations etcd takes in one.
	inTransaction = 100
	fillers       = 4
	countWait     = 5 * time.Minute
	countTick     = time.Second
)

// put is an operation of etcd's.
type put struct {
	Request struct {
		Key   []byte `json:"key"`
		Value []byte `json:"value"`
	} `json:"requestPut"`
}

// fill makes the objects that others have: ConfigMaps and Secrets of many owners in many projects. They are put straight
// into etcd, where the API server finds and watches them like those that it was sent: it would take minutes to take them.
func (w *world) fill(ctx context.Context, o *options) error {
	pki := filepath.Join(w.ControlPlane().Config().Dir, "pki")
	client, err := clientWith(
		filepath.Join(pki, "apiserver-etcd-client.crt"), filepath.Join(pki, "apiserver-etcd-client.key"), filepath.Join(pki, "etcd-ca.crt"), nil)
	if err != nil {
		return err
	}
	url := fmt.Sprintf("https://127.0.0.1:%d/v3/kv/txn", w.ControlPlane().Config().Ports.Etcd)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(fillers)
	for from := 0; from < o.objects; from += inTransaction {
		group.Go(func() error { return transact(groupCtx, client, url, from, min(from+inTransaction, o.objects)) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return w.awaitObjects(ctx, o)
}

func transact(ctx context.Context, client *http.Client, url string, from, to int) error {
	puts := make([]put, to-from)
	for i := range puts {
		n := from + i
		resource, one, err := filler(n)
		if err != nil {
			return err
		}
		puts[i].Request.Key = fmt.Appendf(nil, "/registry/%s/%s/%s", resource, space(n%namespaces), numbered(n))
		puts[i].Request.Value = one
	}
	body, err := json.Marshal(map[string]any{"success": puts})
	if err != nil {
		return err
	}
	_, err = post(ctx, client, url, body)
	return err
}

// filler is an object as the API server stores it, in JSON, which it reads like its own form.
func filler(n int) (resource string, stored []byte, err error) {
	in := n % namespaces
	meta := metav1.ObjectMeta{
		Namespace: space(in), Name: numbered(n), UID: uuid.NewUUID(), CreationTimestamp: metav1.Now(),
		Labels: tenant.Mark{
			UserID: fmt.Sprintf("%032x", n%owners), UserName: "somebody", Project: tenant.Project{ID: fmt.Sprintf("%032x", in+1), Name: space(in)},
		}.Labels(),
	}
	if n%4 == 0 {
		stored, err = json.Marshal(corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: meta, Type: corev1.SecretTypeOpaque})
		return "secrets", stored, err
	}
	stored, err = json.Marshal(corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: meta, Data: map[string]string{"a": "b"},
	})
	return "configmaps", stored, err
}

// awaitObjects returns when kube-mt-admission, which runs meanwhile, knows of all.
func (w *world) awaitObjects(ctx context.Context, o *options) error {
	client := &http.Client{Timeout: metricsWait}
	last := time.Now()
	return site.Await(ctx, countWait, countTick, "the index of kube-mt-admission", func() (bool, error) {
		told, err := scrape(ctx, client, w.OpsAddress(site.Admission))
		if err != nil {
			return false, err
		}
		known := told["caas_mt_admission_index_objects"]
		if time.Since(last) > sayEvery {
			last = time.Now()
			o.say("  %.0f of %d objects are known\n", known, o.objects)
		}
		return known >= float64(o.objects), nil
	})
}
