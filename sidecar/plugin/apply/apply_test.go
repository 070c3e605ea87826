// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/sidecar/plugin/apply"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

func key(uid string) table.Key { return table.Key{Origin: "default", UID: uid} }

func result(uid string) translate.Result {
	return translate.Result{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "p-" + uid, UID: types.UID("remote-" + uid), Labels: map[string]string{
			translate.LabelManagedBy: translate.ManagedBy, translate.LabelUID: uid, translate.LabelOrigin: "default",
		},
	}}}
}

func newApplier(t *testing.T, client *fake.Clientset, change func(*apply.Config)) (*apply.Applier, *table.Table) {
	t.Helper()
	config := apply.Config{Client: client, Table: table.New(), Namespaces: []string{"cms"}}
	if change != nil {
		change(&config)
	}
	applier, err := apply.New(config)
	require.NoError(t, err)
	t.Cleanup(applier.Wait)
	return applier, config.Table
}

func TestTombstonesAreBounded(t *testing.T) {
	t.Parallel()
	applier, _ := newApplier(t, fake.NewClientset(), func(c *apply.Config) { c.TombstoneLimit = 3 })
	for i := range 6 {
		require.NoError(t, applier.Delete(t.Context(), key(fmt.Sprint(i)), nil))
	}
	for i := range 6 {
		_, err := applier.Create(t.Context(), key(fmt.Sprint(i)), "cms", result(fmt.Sprint(i)))
		if i < 3 {
			assert.NoError(t, err, "forgotten: %d", i)
		} else {
			assert.ErrorIs(t, err, apply.ErrDeleted, "remembered: %d", i)
		}
	}
}

func TestTombstonesExpire(t *testing.T) {
	t.Parallel()
	applier, _ := newApplier(t, fake.NewClientset(), func(c *apply.Config) { c.TombstoneLife = 50 * time.Millisecond })
	require.NoError(t, applier.Delete(t.Context(), key("u"), nil))
	_, err := applier.Create(t.Context(), key("u"), "cms", result("u"))
	require.ErrorIs(t, err, apply.ErrDeleted)
	assert.Eventually(t, func() bool {
		_, err := applier.Create(t.Context(), key("u"), "cms", result("u"))
		return err == nil
	}, 5*time.Second, 10*time.Millisecond)
}

func TestGraceAndPrecondition(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	applier, _ := newApplier(t, client, nil)
	_, err := applier.Create(t.Context(), key("u"), "cms", result("u"))
	require.NoError(t, err)
	require.NoError(t, applier.Delete(t.Context(), key("u"), new(int64(7))))
	var deletes []ktesting.DeleteActionImpl
	for _, action := range client.Actions() {
		if deletion, ok := action.(ktesting.DeleteActionImpl); ok {
			deletes = append(deletes, deletion)
		}
	}
	require.Len(t, deletes, 1)
	assert.EqualValues(t, 7, *deletes[0].DeleteOptions.GracePeriodSeconds)
	assert.EqualValues(t, "remote-u", *deletes[0].DeleteOptions.Preconditions.UID)
}

func TestSweep(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	applier, pods := newApplier(t, client, nil)
	for _, uid := range []string{"a", "b"} {
		_, err := applier.Create(t.Context(), key(uid), "cms", result(uid))
		require.NoError(t, err)
	}
	require.NoError(t, client.CoreV1().Pods("cms").Delete(t.Context(), "p-a", metav1.DeleteOptions{}))
	require.NoError(t, applier.Sweep(t.Context(), time.Now().Add(-time.Hour)))
	assert.Equal(t, 2, pods.Len(), "too young to judge")
	require.NoError(t, applier.Sweep(t.Context(), time.Now().Add(time.Second)))
	assert.Nil(t, pods.Lookup(key("a")))
	assert.NotNil(t, pods.Lookup(key("b")))
}

func TestFailures(t *testing.T) {
	t.Parallel()
	pods := schema.GroupResource{Resource: "pods"}
	terminating := apierrors.NewForbidden(pods, "p", errors.New("because it is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for name, test := range map[string]struct {
		err   error
		final bool
		want  string
	}{
		"quota":        {apierrors.NewForbidden(pods, "p", errors.New("exceeded quota: q")), false, "exceeded quota"},
		"pod security": {apierrors.NewForbidden(pods, "p", errors.New(`violates PodSecurity "baseline:latest"`)), true, "PodSecurity"},
		"invalid":      {apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "p", nil), true, "refuses it"},
		"terminating":  {terminating, false, "being terminated"},
		"too many":     {apierrors.NewTooManyRequests("slow down", 1), false, "overloaded"},
		"internal":     {apierrors.NewInternalError(errors.New("etcd")), false, "etcd"},
		"webhook":      {apierrors.NewForbidden(pods, "p", errors.New(`admission webhook "x" denied the request: no`)), false, "denied the request"},
		"no cluster":   {errors.New("dial tcp 10.0.0.1:6443: connection refused"), false, "cannot be reached"},
		"credentials":  {apierrors.NewUnauthorized("token abc expired"), false, "credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := fake.NewClientset()
			client.PrependReactor("create", "pods", func(ktesting.Action) (bool, runtime.Object, error) { return true, nil, test.err })
			applier, _ := newApplier(t, client, nil)
			_, err := applier.Create(t.Context(), key("u"), "cms", result("u"))
			require.ErrorContains(t, err, test.want)
			assert.Equal(t, test.final, apply.IsFinal(err))
			assert.NotContains(t, err.Error(), "10.0.0.1", "no address")
			assert.NotContains(t, err.Error(), "abc", "no credential")
		})
	}
}
